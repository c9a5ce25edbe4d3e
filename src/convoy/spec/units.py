"""Durations, sizes and rates as people write them: `10m`, `1h30m`, `1Gi`, `256MB`, `20Mbit`."""

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

MAX_DURATION_S: Final = 10 * 365 * 86400.0  # ten years, which every clock and every database can represent
MAX_SIZE: Final = 1 << 62  # bytes, for the same reason

_LARGEST: Final = 1e300  # a whole number may be larger than any float
_NUMBER = r"(\d{1,15}(?:\.\d{1,15})?)"
_PART: Final = re.compile(_NUMBER + r"\s*(ms|s|m|h|d)", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_PART.pattern}\s*)+", re.ASCII)
_SIZE: Final = re.compile(_NUMBER + r"\s*([a-zA-Z]*)", re.ASCII)


def duration_s(text: str | float) -> float:
    """Return seconds: `10m`, `1h30m`, `500ms`, or a bare number of seconds, at most ten years. Raises `BadInput`."""
    number = _plain(text)
    seconds = _seconds(str(text)) if number is None else number
    if seconds > MAX_DURATION_S:
        raise BadInput(f'"{text}" is too long', why="the limit is ten years", fix="write it like 30s, 10m or 365d")
    return seconds


def _seconds(text: str) -> float:
    written = text.strip()
    if not _DURATION.fullmatch(written):
        raise BadInput(
            f'"{text}" is not a duration',
            why="wanted a number and ms, s, m, h or d",
            fix="write it like 30s, 10m or 1h30m",
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(written))


def size_bytes(text: str | float) -> int:
    """Return bytes: `1Gi` (1024s), `1G` or `1GB` (1000s), or a bare number of bytes, below 2^62. Raises `BadInput`."""
    number = _plain(text)
    size = _bytes(str(text)) if number is None else int(number)
    if size > MAX_SIZE:
        raise BadInput(f'"{text}" is too large', why=f"the limit is {MAX_SIZE} bytes", fix="write it like 512Mi or 1Gi")
    return size


def rate_bytes(text: str | float) -> float:
    """Return bytes a second: `20Mbit` (a million bits, 1000s), `5MB` (bytes), or a bare number of bytes.

    Raises `BadInput`, for a rate of 0, too.
    """
    bits = isinstance(text, str) and text.strip().endswith("bit")
    try:
        rate = size_bytes(str(text).strip().removesuffix("bit")) / 8 if bits else float(size_bytes(text))
    except BadInput as problem:
        raise BadInput(
            f'"{text}" is not a rate', why="wanted bits or bytes a second", fix="write it like 20Mbit or 5MB"
        ) from problem
    if rate == 0:
        raise BadInput(f'"{text}" is a rate at which nothing ever arrives', fix="write it like 20Mbit or 5MB")
    return rate


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if not match or match[2] not in _BYTES:
        raise BadInput(
            f'"{text}" is not a size',
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
    if value < 0 or value > _LARGEST or not math.isfinite(value):
        raise BadInput(f"{value} is not a number from 0 up")
    return float(value)
