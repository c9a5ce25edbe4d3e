"""Updates with 8 or 16 bits in place of each float: packed at a site, and taken apart where they are read.

What is packed is the difference (model - update), in blocks of `BLOCK` items. Each block has a scale, its largest
absolute value as float32; each item becomes a fraction of it. With 8 bits the fraction is a whole number of 127ths,
rounded up or down at random so that the mean of many is right (Alistarh et al.: QSGD, 2017, section 3.1); with 16 bits
it is a float16. A tensor without a change comes out as the model's, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.errors import Refused
from convoy.model import arrays, order, schema
from convoy.model.arrays import Model
from convoy.model.blob import ITEM_SIZE
from convoy.model.schema import Shapes

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

BLOCK: Final = 2048  # items that share a scale: a scale is 0.2 % of them
SLICE: Final = 32 * BLOCK  # items that are calculated at a time
STEPS: Final = 127  # of an int8, up and down
LEAST: Final = 1024  # bytes that a packed update saves; scales, their name and their digest take some 200
SCALES: Final = "convoy.scales"  # the tensor of all scales, after the model's own


def shapes(model: Shapes, packing: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return name -> (dtype, shape) of a packed update of a model. Raises `Refused` for a model that has `SCALES`."""
    if SCALES in model:
        raise Refused(f"the model has a tensor named {SCALES!r}", why="an update that is packed needs that name")
    items = _packed(model, packing)
    found = {name: (packing if name in items else dtype, shape) for name, (dtype, shape) in model.items()}
    return {**found, SCALES: ("F32", (sum(map(_blocks, items.values())),))}


def saves(model: Shapes, packing: str) -> bool:
    """Return whether a packed update of a model is smaller than the update, by `LEAST` at least."""
    size = ITEM_SIZE[packing]
    saved = (
        items * (ITEM_SIZE[model[name][0]] - size) - 4 * _blocks(items)
        for name, items in _packed(model, packing).items()
    )
    return sum(saved) >= LEAST


def pack(update: Mapping[str, Array], base: Mapping[str, Array], packing: str, seed: bytes) -> dict[str, Array]:
    """Return an update packed, laid out as `shapes` says; `seed` decides how 8 bits are rounded.

    Raises `Refused` for an update that is not finite or farther from its base than a float32 can say.
    """
    schema.check_values(update)
    source = np.random.Generator(np.random.PCG64DXSM(int.from_bytes(seed, "little")))
    found: dict[str, Array] = {}
    scales, smaller = [np.zeros(0, np.float32)], _packed(Model(update).shapes, packing)
    for name, array in update.items():
        if name not in smaller:
            found[name] = array
            continue
        out = np.empty(array.size, arrays.dtype(packing))
        for part, apart in _differences(base[name], array):
            scale = _scales(apart)
            if not np.isfinite(scale).all():
                raise Refused(f"tensor {name!r} is too far from the model to be packed", why="float32 is the limit")
            fractions = apart / _spread(np.where(scale == 0, np.float32(1), scale), apart)
            out[part] = _rounded(fractions, source) if packing == "I8" else fractions.clip(-1, 1)
            scales.append(scale)
        found[name] = out.reshape(array.shape)
    return {**found, SCALES: np.concatenate(scales)}


class Unpacked(Model):
    """A packed update as the update that it says: each tensor is calculated when it is asked for."""

    __slots__ = ()

    def __init__(self, packed: Mapping[str, Array], base: Mapping[str, Array], packing: str) -> None:
        """Keep both; their tensors are laid out as `shapes` says."""
        super().__init__({})
        self._shapes = Model(base).shapes
        self._arrays = _Lazily(packed, base, packing, self._shapes)


class _Lazily(Mapping[str, "Array"]):
    """The tensors of a packed update by name."""

    def __init__(self, packed: Mapping[str, Array], base: Mapping[str, Array], packing: str, model: Shapes) -> None:
        self._packed, self._base, self._packing = packed, base, packing
        self._scales: dict[str, int] = {}  # where those of each packed tensor begin
        place = 0
        for name, items in _packed(model, packing).items():
            self._scales[name] = place
            place += _blocks(items)

    def __getitem__(self, name: str) -> Array:
        base, packed = self._base[name], self._packed[name]
        if name not in self._scales:
            return packed
        out = np.empty(base.size, base.dtype)
        flat, flat_base, wide = packed.reshape(-1), base.reshape(-1), order.wide(base.dtype)
        for start in range(0, base.size, SLICE):
            part = slice(start, start + SLICE)
            first = self._scales[name] + start // BLOCK
            fractions = flat[part].astype(wide)
            if self._packing == "I8":
                fractions /= STEPS
            scale = self._packed[SCALES][first : first + _blocks(fractions.size)]
            with np.errstate(over="ignore", invalid="ignore"):  # a site can say this; whoever checks it finds it
                out[part] = flat_base[part].astype(wide) - fractions * _spread(scale, fractions)
        out.flags.writeable = False
        return out.reshape(base.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)


def _packed(model: Shapes, packing: str) -> dict[str, int]:
    """Return how many items each tensor has that becomes smaller: floats that are wider than what they become."""
    size = ITEM_SIZE[packing]
    return {
        name: math.prod(shape)
        for name, (dtype, shape) in model.items()
        if arrays.dtype(dtype).kind not in "iub" and ITEM_SIZE[dtype] > size
    }


def _blocks(items: int) -> int:
    return -(-items // BLOCK)


def _differences(base: Array, update: Array) -> Iterator[tuple[slice, Array]]:
    """Yield (base - update) in slices: an item that is equal in both gives +0.0, which leaves the base as it is."""
    wide, flat, flat_base = order.wide(update.dtype), update.reshape(-1), base.reshape(-1)
    for start in range(0, flat.size, SLICE):
        part = slice(start, start + SLICE)
        with np.errstate(over="ignore"):
            yield part, flat_base[part].astype(wide) - flat[part].astype(wide)


def _scales(apart: Array) -> Array:
    with np.errstate(over="ignore"):
        largest: Array = np.maximum.reduceat(np.abs(apart), range(0, apart.size, BLOCK)).astype(np.float32)
    return largest


def _spread(scale: Array, like: Array) -> Array:
    """Return the scale of each item."""
    return np.repeat(scale, BLOCK)[: like.size].astype(like.dtype)


def _rounded(fractions: Array, source: np.random.Generator) -> Array:
    """Return whole numbers of 127ths, each up or down with the chance that makes its mean right."""
    steps = np.floor(fractions * STEPS + source.random(fractions.size, np.float32))
    return steps.clip(-STEPS, STEPS).astype(np.int8)
