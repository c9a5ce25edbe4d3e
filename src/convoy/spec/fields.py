"""Durations, sizes and rates as fields of pydantic models, which say in their own words what they want."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from convoy.errors import BadInput
from convoy.spec import units


def duration(value: Any) -> float:
    """Return seconds. Raises `ValueError`, as pydantic wants it."""
    try:
        return units.duration_s(value)
    except BadInput as error:
        raise ValueError("a duration such as 30s, 10m or 1h30m") from error


def _size(value: Any) -> int:
    try:
        return units.size_bytes(value)
    except BadInput as error:
        raise ValueError("a size such as 512Mi or 1Gi") from error


def _rate(value: Any) -> float:
    try:
        return units.rate_bytes(value)
    except BadInput as error:
        raise ValueError("a rate such as 20Mbit or 5MB") from error


Duration = Annotated[float, BeforeValidator(duration)]  # seconds
Size = Annotated[int, BeforeValidator(_size)]  # bytes
Rate = Annotated[float, BeforeValidator(_rate)]  # bytes a second
