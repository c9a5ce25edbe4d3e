"""Numbers that somebody gave: one, or metrics by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from convoy.errors import BadInput


def as_float(value: Any) -> float:
    """Return what somebody gave as a number; an integer beyond all floats is infinite.

    Raises `TypeError` or `ValueError` for what is no number.
    """
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf


def number(what: str, value: Any) -> float:
    """Return a value as a float; an integer beyond all floats is infinite. Raises `BadInput` with what to write."""
    try:
        return as_float(value)
    except (TypeError, ValueError) as problem:
        fix = 'give one number, such as 0.5; a mapping as names of their own: {"train.loss": 0.5}'
        if not isinstance(value, Mapping):
            fix = "give one number: .item() of an array of one, .mean() of several"
        if value is None or isinstance(value, str | bytes):
            fix = "leave it out where there is no number"
        said = repr(value)
        raise BadInput(f"{what} is {said if len(said) < 200 else said[:200] + '…'}, not a number", fix=fix) from problem


def metrics(given: Any, of: str) -> dict[str, float]:
    """Return metrics, which somebody gave by name, as floats. Raises `BadInput` for all that is not numbers by name."""
    if not isinstance(given, Mapping):
        raise BadInput(
            f"the metrics of {of} are {given!r}, a {type(given).__name__}",
            why="wanted a mapping of names to numbers",
            fix='write metrics={"loss": 0.5}',
        )
    found = {str(name): number(f"metric {name!r} of {of}", value) for name, value in given.items()}
    if len(found) != len(given):
        raise BadInput(
            f"two metrics of {of} have the same name",
            why=f"their keys are {', '.join(map(repr, given))}, and names are text",
            fix="give each metric a name of its own",
        )
    return found
