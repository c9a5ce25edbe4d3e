"""Counters and histograms that a node keeps in memory for its /metrics, each with a bounded number of series."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from convoy.wire.health import Metric

SECONDS: Final = (
    0.005,
    0.025,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
    1800,
    7200,
    43200,
)  # from a frame to a night
TURNS: Final = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)  # seconds of one turn of an event loop
MOST: Final = 200  # series of one counter or histogram; whatever comes after them is counted as `other`
OTHER: Final = "other"


@dataclass(slots=True)
class Counter:
    """Numbers that only grow, by the values of some labels; `name` ends in `_total`."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    _series: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, *values: str, by: float = 1) -> None:
        """Add to the series of these label values."""
        key = _place(values, self._series)
        self._series[key] = self._series.get(key, 0) + by

    def metrics(self) -> Iterator[Metric]:
        """Yield every series; a counter without labels begins at 0."""
        series = self._series or ({} if self.labels else {(): 0.0})
        for values, number in sorted(series.items()):
            yield Metric(self.name, self.help, number, "counter", tuple(zip(self.labels, values, strict=True)))


@dataclass(slots=True)
class Histogram:
    """How many values lie below each of fixed bounds, by the values of some labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = SECONDS
    _series: dict[tuple[str, ...], tuple[list[int], list[float]]] = field(default_factory=dict)

    def add(self, value: float, *values: str) -> None:
        """Count a value in the series of these label values."""
        key = _place(values, self._series)
        if key not in self._series:
            self._series[key] = ([0] * (len(self.bounds) + 1), [0.0])
        counts, total = self._series[key]
        counts[bisect_left(self.bounds, value)] += 1
        total[0] += value

    def metrics(self) -> Iterator[Metric]:
        """Yield every series, with its counts up to each bound."""
        bounds = [*map(str, map(float, self.bounds)), "+Inf"]
        for values, (counts, total) in sorted(self._series.items()):
            buckets = tuple(zip(bounds, accumulate(counts), strict=True))
            labels = tuple(zip(self.labels, values, strict=True))
            yield Metric(self.name, self.help, total[0], "histogram", labels, buckets)


def _place(values: tuple[str, ...], series: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    return values if values in series or len(series) < MOST else (OTHER,) * len(values)
