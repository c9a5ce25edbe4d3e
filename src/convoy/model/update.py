"""An update: what one site answered to one question."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convoy.model.arrays import NO_ARRAYS, Model


def _unheard(_norm: float, _cosine: float) -> None:
    """Hear where an update lies that no fleet has handed out."""


def _nobody(_: str) -> None:
    """Hear a word on an update that no fleet has handed out."""


@dataclass(frozen=True, slots=True)
class Update:
    """A site's arrays, its weight and its metrics; `model` is empty where a site answered with metrics alone.

    Whoever folds updates says through `leave_out(reason)` that this one does not count in its round, and through
    `remark(text)` what else there is to say of it: both come with the site's name into the job's log, and the first
    into the round's record too. Through `lies(norm, cosine)` it says where the update lies in the round: the L2 norm of
    (update - model), and the cosine of the angle between that and what the fold of all made of the model.
    """

    site: str
    model: Model
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    leave_out: Callable[[str], None] = field(default=_nobody, repr=False, compare=False)
    remark: Callable[[str], None] = field(default=_nobody, repr=False, compare=False)
    lies: Callable[[float, float], None] = field(default=_unheard, repr=False, compare=False)
    value: Any = None  # what the site says beside its arrays: plain JSON
    base: Model = field(default=NO_ARRAYS, repr=False)  # of a stream's answer: what it began from
    staleness: int = 0  # rounds that were committed between the model of the question and this answer


def finite(metrics: Mapping[str, float], of: str, log: Callable[[str], None]) -> dict[str, float]:
    """Return the metrics that are numbers; each that is not is said in the job's log, and left out of means for it."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            log(f"metric {name!r} of {of} is {value}: it is left out")
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
