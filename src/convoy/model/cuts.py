"""Cut points of columns from counts alone: where quantiles lie is found by counting in ever smaller intervals.

Chen, Guestrin: XGBoost: A Scalable Tree Boosting System, 2016, section 3.2 (the global proposal). In place of a sketch,
the counts of all sites are added: they are exact, so the cuts depend on all rows together and not on who holds which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

BITS: Final = 32  # of a float32, as an integer in the order of numbers
FIRST: Final = 8  # bits that the first question tells apart: the sign and the exponent's upper seven
FINITE: Final = (0x00800000, 0xFF7FFFFF)  # the keys of the smallest and of the largest finite float32
NEXT: Final = 4  # bits of each further one


def keys(values: Array) -> Array:
    """Return float32 values as int64 in the same order, from 0 to 2^32; -0 is 0, and NaN is above everything."""
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.int64)
    ordered = np.where(bits >> 31, (1 << BITS) - 1 - bits, bits | (1 << 31))
    return np.where(np.isnan(values), 1 << BITS, ordered)


def values_of(ordered: Array) -> Array:
    """Return the float32 values of keys; the nearest finite one for keys of what is infinite or not a number."""
    ordered = np.clip(ordered, *FINITE)
    bits = np.where(ordered >> 31, ordered & ((1 << 31) - 1), (1 << BITS) - 1 - ordered)
    return bits.astype(np.uint32).view(np.float32)


def counts(x: Array, columns: Array, lows: Array, *, shift: int, fan: int) -> Array:
    """Return how many values lie in each part of each interval: int64 (intervals, fan).

    An interval is of the column `columns[i]` of `x` float32 (rows, columns), and begins at the key `lows[i]`; it has
    `fan` parts of 2^shift keys. The intervals of one column are sorted and do not overlap.
    """
    found = np.zeros((len(lows), fan), np.int64)
    for column in np.unique(columns):
        mine = np.flatnonzero(columns == column)
        ordered = keys(x[:, column])
        place = np.searchsorted(lows[mine], ordered, side="right") - 1
        part = (ordered - lows[mine][np.maximum(place, 0)]) >> shift
        inside = (place >= 0) & (part < fan)
        flat = np.bincount(place[inside] * fan + part[inside], minlength=len(mine) * fan)
        found[mine] = flat.reshape(len(mine), fan)
    return found


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of keys with how many values lie in each, of all columns, sorted by column and place; none is empty."""

    column: Array  # int64 (intervals,)
    low: Array  # int64: the first key
    width: Array  # int64: so many keys
    count: Array  # int64

    def heavy(self, bins: int) -> Array:
        """Return which have more than half of the values that a bin should have, and can be divided: bool."""
        total = np.bincount(self.column, self.count)
        return (self.width > 1) & (self.count * 2 * bins > total[self.column])

    def refined(self, which: Array, counted: Array, width: int) -> Intervals:
        """Return the intervals with these in place of those that were divided into parts of `width` keys."""
        fan = counted.shape[1]
        lows = self.low[which][:, None] + np.arange(fan) * width
        parts = (np.repeat(self.column[which], fan), lows.ravel(), np.full(lows.size, width), counted.ravel())
        kept = (self.column[~which], self.low[~which], self.width[~which], self.count[~which])
        return _sorted(*(np.concatenate(pair) for pair in zip(kept, parts, strict=True)))


def first(counted: Array) -> Intervals:
    """Return the intervals of the first question: counts int64 (columns, 2^FIRST) of equal parts of all keys."""
    columns, fan = counted.shape
    width = (1 << BITS) // fan
    lows = np.tile(np.arange(fan, dtype=np.int64) * width, columns)
    return _sorted(np.repeat(np.arange(columns), fan), lows, np.full(lows.size, width), counted.ravel())


def _sorted(column: Array, low: Array, width: Array, count: Array) -> Intervals:
    order = np.lexsort((low, column))
    order = order[count[order] > 0]
    return Intervals(column[order], low[order], width[order], count[order])


def cut_points(found: Intervals, columns: int, bins: int) -> list[Array]:
    """Return the cut points of each column, float32 and increasing: at most `bins` - 1, none below all values.

    A value belongs to the bin after the cut points that are not above it. A cut is at the beginning of an interval, the
    nearest one to each multiple of 1 / `bins` of the values, so that no bin has more than 2 / `bins` of them, unless
    they are all equal.
    """
    return [_cut_points(found, column, bins) for column in range(columns)]


def _cut_points(found: Intervals, column: int, bins: int) -> Array:
    mine = found.column == column
    below = np.cumsum(found.count[mine]) - found.count[mine]  # values below the beginning of each interval
    if not len(below):
        return np.zeros(0, np.float32)
    goals = np.arange(1, bins) * (below[-1] + found.count[mine][-1]) / bins
    after = np.searchsorted(below, goals).clip(max=len(below) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(goals - below[before] < below[after] - goals, before, after)
    chosen = np.unique(nearest)
    return values_of(found.low[mine][chosen[chosen > 0]])


def typical(found: Intervals, column: int) -> tuple[float, float]:
    """Return the mean of a column and the largest distance from 0, as the intervals tell them."""
    mine = found.column == column
    if not mine.any():
        return 0.0, 0.0
    low = values_of(found.low[mine]).astype(np.float64)
    high = values_of(found.low[mine] + found.width[mine] - 1).astype(np.float64)
    most = max(float(abs(low).max()), float(abs(high).max()))
    nearer = np.where(abs(low) < abs(high), low, high)  # the end that is nearer to 0: exact for whole numbers
    return float((nearer * found.count[mine]).sum() / found.count[mine].sum()), most


def padded(points: Sequence[Array]) -> tuple[Array, Array]:
    """Return cut points as they travel: all of them in a row, float32, and how many each column has, int32."""
    return np.concatenate([*points, np.zeros(0, np.float32)]), np.array([len(it) for it in points], np.int32)


def unpadded(flat: Array, lengths: Array) -> list[Array]:
    """Return the cut points of each column."""
    return np.split(flat, np.cumsum(lengths)[:-1])
