"""JSON in, plain data out; how many lists and mappings it holds is limited before the first of them is built."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

EACH: Final = 88  # bytes that an empty mapping takes in a list, and 3 in a file: the most that JSON grows by


def load(data: bytes, *, most: int) -> Any:
    """Return what ASCII JSON of at most `most` lists and mappings says; brackets inside texts count, too.

    Raises `ValueError` for more of them, for anything that is no JSON, and for numbers that are none; `RecursionError`
    for what is nested too deep.
    """
    found = data.count(b"[") + data.count(b"{")
    if found > most:
        raise ValueError(f"it has {found:,} lists and mappings; the limit is {most:,}")
    return json.loads(data.decode("ascii"), parse_constant=_refuse)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")
