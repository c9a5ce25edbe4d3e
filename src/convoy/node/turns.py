"""The turns of a node's event loop, each measured in the selector: how long everything else had to wait."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator

from convoy.wire.health import Metric
from convoy.wire.measures import TURNS, Histogram


class Turns(selectors.DefaultSelector):
    """A selector that measures what the loop does between two of its calls.

    A loop that does nothing costs nothing: there is no timer, and no turn is missed between two of a timer's ticks.
    """

    def __init__(self) -> None:
        """Start without a turn."""
        super().__init__()
        self._woke = time.perf_counter()
        self._seconds = Histogram(
            "convoy_event_loop_turn_seconds",
            "Seconds that one turn of the event loop took, in which nothing else of this node could run.",
            bounds=TURNS,
        )

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events, as any selector does."""
        self._seconds.add(time.perf_counter() - self._woke)
        try:
            return super().select(timeout)
        finally:
            self._woke = time.perf_counter()

    def metrics(self) -> Iterator[Metric]:
        """Yield the histogram of the turns."""
        return self._seconds.metrics()
