"""The values of many updates sorted item by item, in slices that fit the cache.

Few updates are sorted by Batcher's odd-even merge exchange (Knuth: The Art of Computer Programming 3, 1998, section
5.2.2, algorithm M): each of its comparisons is one pair of vector instructions over a slice, and comparisons that no
wanted place depends on are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.model.fold import NARROWEST, SLICE, STACK

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

NETWORK: Final = 64  # updates; above, numpy's sort of each item is faster than the n·log²n comparisons

Comparison = tuple[int, int, bool, bool]  # two places; whether the lower one and the higher one are needed


def slices(size: int, count: int, narrowest: int = NARROWEST) -> Iterator[slice]:
    """Yield the slices of a flat array of `size` items, of which `count` updates together have `STACK` items."""
    width = max(narrowest, min(SLICE, STACK // count))
    for start in range(0, size, width):
        yield slice(start, start + width)


def widened(part: Array) -> Array:
    """Return floats below 32 bits as float32, and everything else as it is."""
    return part.astype(np.float32) if wide(part.dtype) != part.dtype else part


def wide(kind: np.dtype[Any]) -> np.dtype[Any]:
    """Return what numpy calculates in: float32 for floats below 32 bits, and every other dtype as it is."""
    return kind if kind.kind in "iub" or (kind.kind == "f" and kind.itemsize >= 4) else np.dtype(np.float32)


class Sorter:
    """Sorts slices of `count` updates; the memory of one stack of slices is all that it takes."""

    def __init__(self, count: int, first: int, last: int) -> None:
        """Prepare to return the places from `first` up to and without `last` of the sorted values."""
        self._first, self._last = first, last
        self._network = network(count, range(first, last)) if count <= NETWORK else None
        self._buffer = np.empty((count + 1) * max(NARROWEST, min(SLICE, STACK // count)), np.float64)

    def sort(self, parts: Sequence[Array]) -> list[Array]:
        """Return the wanted places of the values, the lowest first; they are valid until the next call.

        Floats below 32 bits come back as float32. Which of -0.0 and 0.0 comes first is a matter of the parts' order.
        """
        kind, size, count = wide(parts[0].dtype), parts[0].size, len(parts)
        stack = self._buffer.view(kind)[: (count + 1) * size].reshape(count + 1, size)
        for row, part in zip(stack, parts, strict=False):
            np.copyto(row, part, casting="unsafe")
        if self._network is None:
            stack[:count].sort(axis=0)
            return list(stack[self._first : self._last])
        rows, spare = list(stack[:count]), stack[count]
        for low, high, lower, higher in self._network:
            if lower and higher:
                np.minimum(rows[low], rows[high], out=spare)
                np.maximum(rows[low], rows[high], out=rows[high])
                rows[low], spare = spare, rows[low]
            elif lower:
                np.minimum(rows[low], rows[high], out=rows[low])
            else:
                np.maximum(rows[low], rows[high], out=rows[high])
        return rows[self._first : self._last]


def network(count: int, places: Sequence[int]) -> list[Comparison]:
    """Return the comparisons, in order, after which these places hold what they would hold if all were sorted."""
    needed, kept = set(places), []
    for low, high in reversed(list(_comparisons(count))):
        if low in needed or high in needed:
            kept.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return kept[::-1]


def _comparisons(count: int) -> Iterator[tuple[int, int]]:
    """Yield the places that Batcher's network compares, in its order."""
    run = 1  # so many neighbours are sorted already
    while run < count:
        step = run
        while step:
            for start in range(step % run, count - step, 2 * step):
                for low in range(start, min(start + step, count - step)):
                    if low // (2 * run) == (low + step) // (2 * run):
                        yield low, low + step
            step //= 2
        run *= 2
