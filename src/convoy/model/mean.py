"""The weighted mean of updates, folded one after the other in slices that fit the cache.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data, 2017, algorithm 1 (the server's line): w ← Σ nₖ/n · wₖ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.errors import BadInput
from convoy.model import arrays as _arrays
from convoy.model import schema
from convoy.model.update import Update

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

SLICE: Final = 1 << 16  # items: 256 KiB of float32 stay in the second-level cache while they are multiplied and added


class Mean:
    """A running Σ weight·update.

    float32 and float64 are summed as they are, smaller floats in float32, integers and truth values in float64: an
    integer's mean is rounded, a truth value's is the majority's. The sum is one buffer for each tensor, and the result
    takes that same memory. Its bits are a function of the updates and of their order.
    """

    def __init__(self, like: Mapping[str, Array]) -> None:
        """Prepare for updates with the names, shapes and dtypes of `like`; memory is taken at the first update."""
        self._like = {name: (array.dtype, array.shape) for name, array in like.items()}
        self._shapes = _arrays.shapes(like)
        self._sums: dict[str, Array] = {}
        self._scratch = np.empty(SLICE, np.float64)
        self._metrics: dict[str, tuple[float, float]] = {}  # name -> (sum of weight·value, sum of weight)
        self._count = 0
        self._done = False
        self.weight = 0.0

    def __len__(self) -> int:
        return self._count

    def add(self, update: Update) -> None:
        """Fold one update in. Raises `Refused` if its tensors are not those of `like`, `BadInput` after `result`."""
        if self._done:
            raise BadInput("this mean has given its result", fix="make a new Mean for each round")
        schema.check_shapes(_arrays.shapes(update.model), self._shapes)
        self.add_metrics(update)
        if update.weight:
            for name, array in update.model.items():
                self._fold(name, array.reshape(-1), update.weight)

    def add_metrics(self, update: Update) -> None:
        """Fold in an update's metrics alone, and not its arrays. Raises `BadInput` for a weight that is none."""
        if not math.isfinite(update.weight) or update.weight < 0:
            raise BadInput(f"the weight of {update.site}'s update is {update.weight}", fix="give a number from 0 up")
        self._count += 1
        self.weight += update.weight
        for name, value in update.metrics.items():
            if math.isfinite(value):
                total, weight = self._metrics.get(name, (0.0, 0.0))
                self._metrics[name] = (total + update.weight * value, weight + update.weight)

    def _fold(self, name: str, values: Array, weight: float) -> None:
        total = self._sums.get(name)
        first = total is None
        if total is None:  # the first update needs no zeros to be added to
            total = self._sums[name] = np.empty(values.size, _wide(values.dtype))
        scratch = self._scratch.view(total.dtype)[:SLICE]
        for start in range(0, values.size, SLICE):
            part = values[start : start + SLICE]
            into = total[start : start + SLICE]
            product = into if first else scratch[: part.size]
            np.multiply(part, weight, out=product, dtype=total.dtype, casting="unsafe")
            if not first:
                np.add(into, product, out=into)

    @property
    def metrics(self) -> dict[str, float]:
        """The weighted mean of each metric over the sites that gave it as a finite number."""
        return {name: total / weight for name, (total, weight) in sorted(self._metrics.items()) if weight}

    def result(self) -> dict[str, Array]:
        """Return the mean, in the memory of the sum: nothing can be added after it.

        Raises `BadInput` if there was no update with a weight above 0.
        """
        if self._done:
            raise BadInput("this mean has given its result", fix="make a new Mean for each round")
        if self._like and not self._sums:
            raise BadInput("there is no mean", why=f"none of {self._count} updates has a weight above 0")
        self._done = True
        sums, self._sums = self._sums, {}
        return {name: self._divide(sums[name], kind).reshape(shape) for name, (kind, shape) in self._like.items()}

    def _divide(self, total: Array, kind: np.dtype[Any]) -> Array:
        """Divide in place, slice by slice; a smaller dtype is written into the front of the same memory."""
        out = total.view(kind)[: total.size]
        scratch = self._scratch.view(total.dtype)[:SLICE]
        for start in range(0, total.size, SLICE):
            part = total[start : start + SLICE]
            if kind == total.dtype:
                np.divide(part, self.weight, out=part)
            else:
                mean = np.divide(part, self.weight, out=scratch[: part.size])
                out[start : start + SLICE] = _narrow(mean, kind)
        return out


def _wide(kind: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which values of this dtype are summed."""
    if kind.kind in "iub":
        return np.dtype(np.float64)
    return kind if kind.itemsize >= 4 else np.dtype(np.float32)


def _narrow(mean: Array, kind: np.dtype[Any]) -> Array:
    if kind.kind == "b":
        return np.asarray(mean > 0.5)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        top = np.nextafter(float(limits.max), 0.0) if limits.bits == 64 else float(limits.max)
        return np.clip(np.rint(mean), float(limits.min), top).astype(kind)
    return mean.astype(kind)
