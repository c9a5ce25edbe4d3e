"""Phases of rounds as a node measures them: counted by name for /metrics, and passed on where they are traced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from convoy.control.records import Question
from convoy.wire.health import Metric
from convoy.wire.measures import Histogram

AtServer = Literal["round", "ask", "task", "check", "fold", "commit"]
AtSite = Literal["pull", "train", "filter", "push"]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a round that is over; `began` is in seconds since the epoch, `question` and `site` "" where none."""

    name: AtServer | AtSite
    job: str
    round: int
    began: float
    seconds: float
    question: str = ""
    site: str = ""
    error: str = ""  # why it came to nothing


def _histogram() -> Histogram:
    return Histogram("convoy_phase_seconds", "Seconds of each phase of a round, by phase.", ("phase",))


@dataclass(slots=True)
class Phases:
    """Every phase that ends at this node comes here."""

    trace: Callable[[Phase], None] | None = None
    _seconds: Histogram = field(default_factory=_histogram)

    def ended(self, phase: Phase) -> None:
        """Count a phase; must be called in the node's event loop."""
        self._seconds.add(phase.seconds, phase.name)
        if self.trace is not None:
            self.trace(phase)

    @contextmanager
    def measured(self, name: AtServer | AtSite, job: str, number: int, question: str, site: str) -> Iterator[None]:
        """Measure a block as a phase of a round; one that an error or the end of its job cuts short is marked so."""
        wall, began, error = time.time(), time.monotonic(), "it was cut short"
        try:
            yield
            error = ""
        finally:
            self.ended(Phase(name, job, number, wall, time.monotonic() - began, question, site, error))

    def of(self, question: Question, site: str) -> Callable[[AtSite], AbstractContextManager[None]]:
        """Return what measures a block as a phase of a question's task at a site, by the name of the phase."""
        return lambda name: self.measured(name, question.job, question.round, question.id, site)

    def metrics(self) -> Iterator[Metric]:
        """Yield the histogram of each phase."""
        return self._seconds.metrics()
