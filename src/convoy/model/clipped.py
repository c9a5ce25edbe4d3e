"""Updates that are shortened: moved towards the model that they began from, slice by slice, as a fold reads them.

Nguyen et al.: FLAME: Taming Backdoors in Federated Learning, 2022, section 4.3: an update of the norm e counts as
min(1, S / e) of itself, where S is the median of the norms of the round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.model import arrays as _arrays

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


class Clipped(Mapping[str, Any]):
    """The arrays of an update: floats with `share` of their difference from `like`, the others as they are.

    An array that is shortened is a `Part`, which folds read in slices: no whole array is made.
    """

    def __init__(self, model: Mapping[str, Array], like: Mapping[str, Array], share: float) -> None:
        """Take the update, the model that it began from, and a share from 0 up to 1."""
        self._model, self._like, self._share = model, like, share

    def __getitem__(self, name: str) -> Any:
        array = self._model[name]
        if array.dtype.kind in "iub" or _arrays.same(self._model, self._like, name):
            return array
        return Part(array, self._like[name], self._share)

    def __iter__(self) -> Iterator[str]:
        return iter(self._model)

    def __len__(self) -> int:
        return len(self._model)


class Part:
    """One array of floats that is shortened: as much of numpy's array as folds use of an update's."""

    def __init__(self, array: Array, like: Array, share: float) -> None:
        """Take arrays of one shape and dtype."""
        self.dtype, self.shape, self.size = array.dtype, array.shape, array.size
        self._array, self._like, self._share = array.reshape(-1), like.reshape(-1), share

    def reshape(self, size: int) -> Part:
        """Return it as it is: its slices are those of the flat array."""
        del size
        return self

    def __getitem__(self, part: slice) -> Array:
        """Return a slice of the flat array: like + share (array - like), calculated in float64."""
        if not self._share:  # a difference that is too large for any float
            return self._like[part]
        like = self._like[part].astype(np.float64)
        like += self._share * (self._array[part].astype(np.float64) - like)
        return like.astype(self.dtype)
