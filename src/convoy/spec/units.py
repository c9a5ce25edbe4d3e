"""Durations and sizes as people write them: `10m`, `1h30m`, `1Gi`, `256MB`."""

from __future__ import annotations

import math
import re
from typing import Final

from convoy.errors import BadInput

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PREFIXES: Final = (("k", "K", 1), ("M", "M", 2), ("G", "G", 3), ("T", "T", 4), ("P", "P", 5))
_BYTES: Final[dict[str, int]] = {"": 1, "B": 1} | {
    prefix + infix + suffix: base**power
    for small, large, power in _PREFIXES
    for prefix in {small, large}
    for base, infix in ((1000, ""), (1024, "i"))
    for suffix in ("", "B")
}

_NUMBER = r"(\d{1,15}(?:\.\d{1,15})?)"
_PART: Final = re.compile(_NUMBER + r"\s*(ms|s|m|h|d)", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_PART.pattern}\s*)+", re.ASCII)
_SIZE: Final = re.compile(_NUMBER + r"\s*([a-zA-Z]*)", re.ASCII)


def duration_s(text: str | float) -> float:
    """Return seconds: `10m`, `1h30m`, `500ms`, or a bare number of seconds. Raises `BadInput`."""
    number = _plain(text)
    if number is not None:
        return number
    written = str(text).strip()
    if not _DURATION.fullmatch(written):
        raise BadInput(
            f'"{text}" is no duration',
            why="wanted a number and ms, s, m, h or d",
            fix="write it like 30s, 10m or 1h30m",
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(written))


def size_bytes(text: str | float) -> int:
    """Return bytes: `1Gi` (1024s), `1G` or `1GB` (1000s), or a bare number of bytes. Raises `BadInput`."""
    number = _plain(text)
    if number is not None:
        return int(number)
    match = _SIZE.fullmatch(str(text).strip())
    if not match or match[2] not in _BYTES:
        raise BadInput(
            f'"{text}" is no size',
            why="wanted a number and Ki, Mi, Gi, Ti (1024s) or k, M, G, T (1000s)",
            fix="write it like 512Mi or 1Gi",
        )
    whole, _, fraction = match[1].partition(".")
    unit = _BYTES[match[2]]
    return int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


def _plain(value: str | float) -> float | None:
    """Return a bare number, or None for anything that needs reading."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadInput(f"{value!r} is neither a number nor text")
    if isinstance(value, str):
        written = value.strip()
        return float(written) if re.fullmatch(_NUMBER, written, re.ASCII) else None
    if not math.isfinite(value) or value < 0:
        raise BadInput(f"{value} is not a number from 0 up")
    return float(value)
