"""Live metrics in a job's code: `convoy.metrics`, and what it accepts."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from convoy.control.numbers import as_float
from convoy.control.points import MAX_POINTS, Point, problem
from convoy.errors import BadInput
from convoy.worker import tasks


def metrics(values: Mapping[str, Any], *, step: int | None = None, phase: str = "") -> None:
    """Report numbers while the code runs, such as `convoy.metrics({"loss": 0.31}, step=120, phase="train")`.

    `values`: 1 to 100 numbers by name: Python's own, or scalars of numpy or torch. `step`: a whole number from 0 to
    10^9. `phase`: "train", "evaluate" or "test". A number that is nan or infinite is left out, and the log says so.
    The call never waits for the network. Of more than 2,000 values a second the rest is left out, and the log says how
    many. The policy of a site decides which values leave it. Raises `BadInput`.
    """
    point = checked(values, step, phase, tasks.session().not_finite)
    if point.values:
        tasks.session().measured(point)


def checked(values: Any, step: Any, phase: Any, not_finite: set[str]) -> Point:
    """Return what a call reports; `not_finite` has the keys of which the log has said that a number is not finite."""
    if not isinstance(values, Mapping):
        raise BadInput(
            f"the metrics are {values!r}, a {type(values).__name__}",
            why="wanted a mapping of names to numbers",
            fix='write convoy.metrics({"loss": 0.5})',
        )
    numbers = {str(key): _number(key, value) for key, value in values.items()}
    for key, value in numbers.items():
        if not math.isfinite(value) and key not in not_finite and len(not_finite) < MAX_POINTS:
            not_finite.add(key)
            at = "" if step is None else f" at step {step}"
            tasks.log(f"convoy: the metric {key!r} is {value}{at}: numbers that are not finite are left out")
    try:
        at_step = None if step is None else operator.index(step)
    except TypeError as wrong:
        raise BadInput(f"the step is {step!r}, a {type(step).__name__}", fix="give a whole number") from wrong
    found = Point({key: value for key, value in numbers.items() if math.isfinite(value)}, at_step, str(phase))
    if (found.values or not numbers) and (wrong_with := problem(found)):
        raise BadInput(wrong_with, fix='write for example convoy.metrics({"loss": 0.31}, step=120, phase="train")')
    return found


def _number(key: Any, value: Any) -> float:
    try:
        if not isinstance(value, str | bytes) and getattr(value, "ndim", 0) == 0:
            return as_float(value)
        why = f"a {type(value).__name__} is not one number"
    except (TypeError, ValueError) as wrong:
        why = str(wrong)
    raise BadInput(
        f"the metric {key!r} is {value!r}"[:200], why=why, fix="give a number, or a scalar of numpy or torch"
    )
