"""An update: what one site answered to one question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from convoy.model.arrays import Model


def _nobody(_: str) -> None:
    """Hear a word on an update that no fleet has handed out."""


@dataclass(frozen=True, slots=True)
class Update:
    """A site's arrays, its weight and its metrics; `model` is empty where a site answered with metrics alone.

    Whoever folds updates says through `leave_out(reason)` that this one does not count in its round, and through
    `remark(text)` what else there is to say of it: both come with the site's name into the job's log, and the first
    into the round's record too.
    """

    site: str
    model: Model
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    leave_out: Callable[[str], None] = field(default=_nobody, repr=False, compare=False)
    remark: Callable[[str], None] = field(default=_nobody, repr=False, compare=False)
