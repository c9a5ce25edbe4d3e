"""Which numbers about a table may leave its site: the cells with enough rows, and the parts of a column's values.

A cell is a set of rows. A cell of fewer rows than the minimum is suppressed, and so is one that could be computed from
those that are released: what remains of a whole has either no rows or enough of them. Parts of a column follow from the
column and the minimum alone, never from what is asked. So any number of questions about one column gets the same parts,
and no difference of two answers has fewer rows. Parts are intervals whose ends are multiples of a power of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

BITS: Final = 20  # of precision: values that agree in so many binary digits are not distinguished
MAX_PARTS: Final = 512  # of one column, about: a part has at least this fraction of the rows
FLOOR: Final = -900  # the exponent of the narrowest cell; whatever is nearer to 0 counts as 0
LARGEST: Final = 1e100  # value of a column, up or down from 0, so that squares and sums of them are finite
SUPPRESSED: Final = -1  # in place of a count that is suppressed


def released(counts: Array, minimum: int, may: Array | None = None) -> Array:
    """Return which cells of a whole may be released, as booleans: each has `minimum` rows, and so has the remainder.

    `counts`: the rows of every cell of the whole, int64; `may`: the cells that could be at all. Where those that are
    suppressed have together fewer rows than the minimum, the smallest of the others is suppressed too (complementary
    suppression: Cox, Suppression Methodology and Statistical Disclosure Control, 1980).
    """
    shown = (counts >= max(minimum, 1)) & (True if may is None else may)
    while shown.any() and 0 < counts[~shown].sum() < minimum:
        shown[np.flatnonzero(shown)[np.argmin(counts[shown])]] = False
    return shown


def subset(whole: Array, part: Array, minimum: int) -> Array:
    """Return where a part of a whole may be released beside it: it has enough rows, and the rest has none or enough."""
    rest = whole - part
    shown: Array = (part >= max(minimum, 1)) & ((rest == 0) | (rest >= minimum))
    return shown


def rounded(values: Array, digits: int) -> Array:
    """Return float64 values rounded to so many significant digits; 0: as they are."""
    if digits == 0:
        return values
    return np.array([float(f"{it:.{digits - 1}e}") for it in values.ravel().tolist()]).reshape(values.shape)


def rounded_counts(counts: Array, digits: int, minimum: int) -> Array:
    """Return int64 counts rounded alike, never below the minimum; what is suppressed stays so."""
    near = np.maximum(rounded(counts.astype(np.float64), digits).astype(np.int64), minimum)
    return np.where(counts < 0, SUPPRESSED, near if digits else counts)


def _exponents(values: Array, bits: int) -> Array:
    """Return for each value the exponent of the width of its cell. Cells are half open: -4.0 begins that of -3.99."""
    fraction, exponent = np.frexp(values)
    octave = exponent - 1 - (fraction == -0.5)
    return np.where(values == 0, FLOOR, np.maximum(octave - bits, FLOOR))


def floors(values: Array, bits: int = BITS) -> Array:
    """Return the lower end of each value's cell; of cells' ends, those of the cells of fewer bits that hold them."""
    exponents = _exponents(values, bits)
    found: Array = np.ldexp(np.floor(np.ldexp(values, -exponents)), exponents)
    return found + 0.0  # -0.0 is 0.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Intervals from `low` (within) to `high` (without), float64 (n,), and how many rows each has, int64 (n,).

    They are in order and do not overlap, and every row lies in one of them.
    """

    low: Array
    high: Array
    counts: Array

    def places(self, values: Array) -> Array:
        """Return the index of the part in which each value lies."""
        return np.searchsorted(self.low, values, side="right") - 1

    def joined(self, groups: Array, minimum: int) -> tuple[Parts, Array]:
        """Return larger parts, each with enough rows of every group, and the rows of each group in them.

        `groups`: the rows of each group in each of these parts, int64 (n, groups). Where some group has too few rows
        in all, there is no part.
        """
        return _joined(self, groups, max(minimum, 1))


def parts(low: Array, counts: Array, minimum: int, bits: int = BITS) -> Parts:
    """Divide a column into the smallest parts that may be released.

    `low`: the lower ends of its cells, ascending, as `floors` gives them; `counts`: how many rows each has, int64. Each
    part has at least `minimum` rows, and a `MAX_PARTS`-th of the column's. With too few rows there is no part at all.

    An interval is halved as long as a half has enough rows, as in a q-digest (Shrivastava et al., Medians and Beyond,
    2004, section 3). A half that has too few joins the other one, or others like it where they have enough together.
    """
    total = int(counts.sum())
    least = max(minimum, 1, -(-total // MAX_PARTS))
    if total < least:
        nothing = np.zeros(0)
        return Parts(nothing, nothing, np.zeros(0, np.int64))
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    high = low + np.ldexp(1.0, _exponents(low, bits))
    found: list[tuple[float, float, int, bool]] = []
    open_ = [(*_root(low, high), 0, len(low), False)]
    while open_:
        start, end, first, last, leans = open_.pop()
        rows = int(sums[last] - sums[first])
        if last - first == 1 and rows >= least:  # fewer rows keep the wide interval: a narrow one would show a value
            start, end = float(low[first]), float(high[first])
        middle = start / 2 + end / 2
        at = first + int(np.searchsorted(low[first:last], middle))
        larger = max(sums[at] - sums[first], sums[last] - sums[at])
        if last - first == 1 or larger < least:
            found.append((start, end, rows, leans))
        else:
            halves = [(middle, end, at, last, True), (start, middle, first, at, False)]
            open_ += [half for half in halves if half[2] < half[3]]
    starts, ends, counted = zip(*_settled(found, least), strict=True)
    return Parts(np.array(starts), np.array(ends), np.array(counted, np.int64))


def _settled(found: list[tuple[float, float, int, bool]], least: int) -> list[tuple[float, float, int]]:
    """Join intervals until each has enough rows; one that leans to the left is the upper half of another."""
    made: list[tuple[float, float, int]] = []
    few: tuple[float, float, int, bool] | None = None  # some neighbours that have too few rows together

    def join_left() -> None:
        nonlocal few
        if few is not None and made and few[3]:
            start, _, rows = made.pop()
            made.append((start, few[1], rows + few[2]))
            few = None

    for first, end, rows, leans in found:
        if few is not None and (rows >= least or few[3] != leans):
            join_left()
        start, together = (first, rows) if few is None else (few[0], rows + few[2])
        few = None if together >= least else (start, end, together, leans)
        if few is None:
            made.append((start, end, together))
    if few is not None:
        few = (*few[:3], True)
        join_left()
    return made


def _root(low: Array, high: Array) -> tuple[float, float]:
    """Return the interval from which halving begins: around 0, or on one side of it."""
    most = max(abs(float(low[0])), abs(float(high[-1])))
    reach = float(np.ldexp(1.0, np.frexp(most)[1]))
    return (-reach if low[0] < 0 else 0.0), (reach if low[-1] >= 0 else 0.0)


def _joined(fine: Parts, groups: Array, least: int) -> tuple[Parts, Array]:
    """Join neighbours, from the lowest on, until every group has enough rows; what remains joins the last."""
    begins, rows = [], np.zeros(groups.shape[1], np.int64)
    start = 0
    for place in range(len(fine.low)):
        rows = rows + groups[place]
        if (rows >= least).all():
            begins.append(start)
            start, rows = place + 1, np.zeros_like(rows)
    if not begins:
        nothing = np.zeros(0)
        return Parts(nothing, nothing, np.zeros(0, np.int64)), np.zeros((0, groups.shape[1]), np.int64)
    ends = [*(place - 1 for place in begins[1:]), len(fine.low) - 1]
    coarse = Parts(fine.low[begins], fine.high[ends], np.add.reduceat(fine.counts, begins))
    return coarse, np.add.reduceat(groups, begins, axis=0)
