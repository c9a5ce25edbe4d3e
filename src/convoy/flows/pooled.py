"""The answers of sites about their tables, combined: moments, correlations, histograms and quantiles of all rows.

Sums are `math.fsum`, which is exact before its last rounding: the order of the sites does not change one bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

MAX_COUNT: Final = 1 << 53  # rows of one site: no site has as many, and float64 holds each smaller number
MAX_VALUE: Final = 1e101  # of a column, up or down from 0: a site takes up to 1e100, and parts have round ends
MAX_SQUARE: Final = 1e220  # of sums of squares and of products: those of as many rows of such values

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Moments:
    """Of some rows: how many, their mean, and the sum of their squared deviations from it."""

    count: int
    mean: float
    m2: float

    @property
    def variance(self) -> float | None:
        """The sample variance, by count - 1; None for one row."""
        return self.m2 / (self.count - 1) if self.count > 1 else None


def moments(each: Sequence[Moments]) -> Moments:
    """Return the moments of all rows from those of disjoint sets of them (Chan, Golub, LeVeque, 1983, section 2)."""
    count = sum(one.count for one in each)
    if not count:
        return Moments(0, 0.0, 0.0)
    mean = math.fsum(one.count * one.mean for one in each) / count
    apart = (one.count * (one.mean - mean) ** 2 for one in each)
    return Moments(count, mean, math.fsum([*(one.m2 for one in each), *apart]))


@dataclass(frozen=True, slots=True)
class Pair:
    """Of the rows that have two columns: how many, both means, both sums of squares, the sum of products."""

    count: int
    means: tuple[float, float]
    m2: tuple[float, float]
    comoment: float


def correlation(each: Sequence[Pair]) -> float | None:
    """Return Pearson's correlation over all rows; None where a column has one value alone, or there are no rows."""
    first = moments([Moments(one.count, one.means[0], one.m2[0]) for one in each])
    second = moments([Moments(one.count, one.means[1], one.m2[1]) for one in each])
    apart = (one.count * (one.means[0] - first.mean) * (one.means[1] - second.mean) for one in each)
    whole = math.fsum([*(one.comoment for one in each), *apart])
    scale = math.sqrt(first.m2) * math.sqrt(second.m2)
    return min(max(whole / scale, -1.0), 1.0) if scale > 0 else None


@dataclass(frozen=True, slots=True)
class Parts:
    """Intervals of one column from all sites: `low` (within) and `high` (without) float64 (n,), `count` int64 (n,)."""

    low: Array
    high: Array
    count: Array

    @property
    def rows(self) -> int:
        """How many rows they have."""
        return int(self.count.sum())


@dataclass(frozen=True, slots=True)
class Histogram:
    """Rows between each two edges, float64 (n + 1,) and int64 (n,); and those below the first and from the last on."""

    edges: Array
    counts: Array
    below: int
    above: int


def histogram(parts: Parts, bins: int, ends: tuple[float, float] | None = None) -> Histogram | None:
    """Return exact counts in about so many bins; None where there are no rows.

    The width of a bin is a power of two and its edges are multiples of it, as those of parts are. An edge within a part
    is left out, so some bins are wider: no site releases how the rows of a part are spread in it. `ends`: the range;
    without it the bins are between the 2 % and 98 % quantiles, and the first and the last one hold what is beyond.
    """
    first, last = quantile(parts, 0.02), quantile(parts, 0.98)
    if first is None or last is None:
        return None
    low, high = ends or (first[0], last[1])
    fraction, exponent = math.frexp(max(high / bins - low / bins, math.ulp(max(abs(low), abs(high), 2.0**-900))))
    width = math.ldexp(1.0, exponent - (fraction == 0.5))
    edges = np.arange(math.floor(low / width), math.ceil(high / width) + 1, dtype=np.float64) * width
    starts, stops = np.sort(parts.low), np.sort(parts.high)
    inside = np.searchsorted(starts, edges, side="left") - np.searchsorted(stops, edges, side="right")
    edges = edges[inside == 0]  # the others have a part that begins below and ends above
    if ends is None or len(edges) < 2:
        edges = np.unique([parts.low.min(), *edges, parts.high.max()])
        edges = edges[(edges >= parts.low.min()) & (edges <= parts.high.max())]
    place = np.searchsorted(edges, parts.low, side="right")
    counts = np.bincount(place, weights=parts.count, minlength=len(edges) + 1).astype(np.int64)
    return Histogram(edges, counts[1:-1], int(counts[0]), int(counts[-1]))


def quantile(parts: Parts, q: float) -> tuple[float, float] | None:
    """Return an interval in which the q-quantile of all rows lies; None where there are no rows.

    The quantile is the smallest value that a share of at least q of the rows do not exceed (Hyndman, Fan, Sample
    Quantiles in Statistical Packages, 1996, definition 1; `numpy.quantile` with `method="inverted_cdf"`).
    """
    if not parts.rows:
        return None
    rank = max(math.ceil(q * parts.rows), 1)
    by_low, by_high = np.argsort(parts.low, kind="stable"), np.argsort(parts.high, kind="stable")
    low = parts.low[by_low][np.searchsorted(np.cumsum(parts.count[by_low]), rank)]
    high = parts.high[by_high][np.searchsorted(np.cumsum(parts.count[by_high]), rank)]
    return float(low), float(high)
