"""The weighted mean of one tensor over many updates, in slices that fit the cache; finite values have a finite mean.

The mean runs: m ← m + (x - m)·w/W, so that no sum can overflow and equal values have exactly their value as the mean
(West: Updating Mean and Variance Estimates, 1979). Updates are taken in blocks of 16 in their order, and the means of
the blocks are merged in order (Chan, Golub, LeVeque, 1979): who has a block's mean and weight need not see its updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

SLICE: Final = 1 << 16  # items: three slices of float32 take 768 KiB, which a second-level cache holds
BLOCK: Final = 16  # updates
STACK: Final = 1 << 18  # items of all updates together where each slice is made: 1 MiB of float32
NARROWEST: Final = 64  # items of one update: below, the calls cost more than the values
EXACT: Final = 1 << 40  # integers this far apart have a mean in float64 that is right to 0.001


class Folder:
    """Folds one tensor after the other; the memory of its slices is all that it takes beside the results."""

    def __init__(self) -> None:
        """Take the memory of three slices."""
        self._buffers = np.empty((3, SLICE), np.float64)

    def fold(self, parts: Sequence[Array], weights: Sequence[float]) -> Array:
        """Return the weighted mean of flat arrays, or parts of `model.clipped`, of one dtype and size, in that dtype.

        Weights are above 0 and sum to a finite number. Floats below 32 bits are calculated in float32. The mean of
        integers is rounded, exactly, whatever their size; the mean of truth values is the majority's, False if there
        is none. Where all parts have the same bits, the mean has them too.
        """
        kind, size = parts[0].dtype, parts[0].size
        out = np.empty(size, kind)
        mapped = all(isinstance(part, np.ndarray) for part in parts)  # slices of others take memory
        width = SLICE if mapped else max(NARROWEST, min(SLICE, STACK // len(parts)))
        for start in range(0, size, width):
            slices = [part[start : start + width] for part in parts]
            into = out[start : start + width]
            if _same(slices):
                into[:] = slices[0]
            elif kind.kind == "b":
                into[:] = self._majority(slices, weights)
            elif kind.kind in "iu" and kind.itemsize == 8:
                into[:] = self._long(slices, weights)
            elif kind.kind in "iu":
                into[:] = np.rint(self._running(slices, weights, np.dtype("f4" if kind.itemsize < 4 else "f8")))
            else:
                self._floats(slices, weights, into)
        return out

    def _floats(self, slices: Sequence[Array], weights: Sequence[float], into: Array) -> None:
        wide = into.dtype if into.dtype.kind == "f" and into.dtype.itemsize >= 4 else np.dtype(np.float32)
        try:
            with np.errstate(over="raise", invalid="ignore"):
                mean = self._running(slices, weights, wide, into if into.dtype == wide else None)
        except FloatingPointError:  # values of opposite signs near the largest there are
            mean = self._far_apart(slices, weights)
        if mean is not into:
            into[:] = mean.astype(into.dtype)

    def _far_apart(self, slices: Sequence[Array], weights: Sequence[float]) -> Array:
        """Return the mean in float64, of quarters if the values are float64, and never outside of the values."""
        if slices[0].dtype != np.float64:
            return self._running(slices, weights, np.dtype(np.float64))
        mean = self._running([part * 0.25 for part in slices], weights, np.dtype(np.float64))
        with np.errstate(over="ignore"):
            mean *= 4
        clipped: Array = np.clip(mean, np.minimum.reduce(slices), np.maximum.reduce(slices))
        return clipped

    def _running(
        self, slices: Sequence[Array], weights: Sequence[float], wide: np.dtype[Any], into: Array | None = None
    ) -> Array:
        """Return the mean in the dtype `wide`, in `into` if that is given."""
        size = slices[0].size
        mean, block, apart = (buffer.view(wide)[:size] for buffer in self._buffers)
        mean = mean if into is None else into
        total = 0.0
        for first in range(0, len(slices), BLOCK):
            target, weight = block if first else mean, 0.0
            for part, each in zip(slices[first : first + BLOCK], weights[first : first + BLOCK], strict=True):
                weight = _merge(target, weight, part, each, apart)
            total = _merge(mean, total, block, weight, apart) if first else weight
        return mean

    def _majority(self, slices: Sequence[Array], weights: Sequence[float]) -> Array:
        votes, each = (buffer[: slices[0].size] for buffer in self._buffers[:2])
        votes[:] = 0
        for part, weight in zip(slices, weights, strict=True):
            votes += np.multiply(part, weight, out=each)
        won: Array = votes * 2 > sum(weights)
        return won

    def _long(self, slices: Sequence[Array], weights: Sequence[float]) -> Array:
        """Return the mean of integers of 64 bits: that of their distances to the lowest, which a float64 can hold."""
        kind = slices[0].dtype
        low = np.minimum.reduce(slices)
        spread = _above(np.maximum.reduce(slices), low)
        far = np.flatnonzero(spread > EXACT)
        above = [_above(part, low) for part in slices]
        exact = _exactly([part[far] for part in above], weights) if far.size else None
        for part in above:
            part[far] = 0
        mean = np.rint(self._running(above, weights, np.dtype(np.float64))).astype(np.uint64)
        if exact is not None:
            mean[far] = exact
        whole: Array = (low.view(np.uint64) + mean).view(kind)
        return whole


def _merge(mean: Array, weight: float, other: Array, its: float, apart: Array) -> float:
    """Make `mean`, which has a weight so far, the mean with another one; return the weight of both."""
    if not weight:
        np.copyto(mean, other, casting="unsafe")
        return its
    if other.dtype == mean.dtype:
        np.subtract(other, mean, out=apart)
    else:
        np.copyto(apart, other, casting="unsafe")
        np.subtract(apart, mean, out=apart)
    np.multiply(apart, its / (weight + its), out=apart)
    np.add(mean, apart, out=mean)
    return weight + its


def _same(slices: Sequence[Array]) -> bool:
    """Return whether all slices have the same bits."""
    first, others = slices[0].view(np.uint8), slices[1:]
    start = first[:64].tobytes()  # most slices that differ do so here
    return all(part.view(np.uint8)[:64].tobytes() == start for part in others) and all(
        np.array_equal(first, part.view(np.uint8)) for part in others
    )


def _above(values: Array, low: Array) -> Array:
    """Return values - low of integers of 64 bits, as uint64: modulo 2^64 that is right for signed ones too."""
    difference: Array = values.view(np.uint64) - low.view(np.uint64)
    return difference


def _exactly(parts: Sequence[Array], weights: Sequence[float]) -> Array:
    """Return the rounded mean of uint64 in whole numbers without a bound; a float is one of those over a power of 2."""
    ratios = [weight.as_integer_ratio() for weight in weights]
    common = max(below for _, below in ratios)
    whole = [above * (common // below) for above, below in ratios]
    total = sum(whole)
    summed: Array = np.add.reduce([part.astype(object) * weight for part, weight in zip(parts, whole, strict=True)])
    rounded: Array = (2 * summed + total) // (2 * total)
    return rounded.astype(np.uint64)
