"""What the filters of a site's policy do to an answer before it leaves, in their order."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, assert_never

import numpy as np

from convoy.errors import Refused
from convoy.model import order, schema
from convoy.model.arrays import Model
from convoy.model.blob import PACKINGS
from convoy.privacy import packing
from convoy.spec.filters import Clip, Exclude, Filter, Noise, Quantize

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]
    Arrays = Mapping[str, Array]

SLICE: Final = 1 << 16  # items


@dataclass(frozen=True, slots=True)
class Leaving:
    """An answer on its way out: its arrays, and what else a filter may see and change; `packed`: their packing."""

    arrays: Arrays
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    packed: str = ""


def apply(filters: Iterable[Filter], answer: Leaving, base: Arrays | None, *, seed: bytes | None = None) -> Leaving:
    """Pass an answer through filters, one after the other; no filter keeps a state.

    Names, shapes and dtypes stay, but for what `quantize`, the last one, packs (`convoy.privacy.packing`).
    `base`: the model that its arrays are shaped like; None for an answer that is not, which these filters refuse.
    `seed` makes noise repeatable, for whoever must send the same bits again after a crash: it has to be secret, and
    another one for every task. Without it each noise is new. Raises `Refused`.
    """
    for place, one in enumerate(filters):
        if not answer.arrays:
            return answer
        if base is None:
            raise Refused(
                f"the filter {type(one).__name__.lower()!r} of the site's policy works on what a model has become",
                why="the arrays of this answer are not shaped like the model",
                fix="the site's owner states `kinds` for that filter, such as `kinds: [train]`",
            )
        own = secrets.token_bytes(32) if seed is None else seed + bytes([place % 256])
        match one:
            case Exclude():
                answer = replace(answer, arrays=_exclude(one, answer.arrays, base))
            case Clip():
                answer = replace(answer, arrays=_clip(one, answer.arrays, base))
            case Noise():
                answer = replace(answer, arrays=_noise(one, answer.arrays, base, own))
            case Quantize():
                kind = PACKINGS[one.bits]
                if packing.saves(Model(answer.arrays).shapes, kind):  # else it leaves as it is
                    answer = replace(answer, arrays=packing.pack(answer.arrays, base, kind, own), packed=kind)
            case _:
                assert_never(one)
    return answer


def _exclude(it: Exclude, update: Arrays, base: Arrays) -> dict[str, Array]:
    """Put the base's values in place of tensors whose name matches a pattern."""
    return {
        name: base[name] if any(fnmatchcase(name, pattern) for pattern in it.tensors) else array
        for name, array in update.items()
    }


def _clip(it: Clip, update: Arrays, base: Arrays) -> dict[str, Array]:
    """Shorten (update - base) to an L2 norm of at most `norm`, over all float tensors together.

    Integers and truth values have no norm: they leave with the base's values.

    Abadi et al.: Deep Learning with Differential Privacy, 2016, section 3.1, on a whole update instead of a gradient.
    """
    _demand_floats("clip", update)
    apart = schema.distance(update, base)
    if apart <= it.norm:
        return {name: base[name] if array.dtype.kind in "iub" else array for name, array in update.items()}
    factor = it.norm / apart
    return {
        name: _shift(array, base[name], lambda base_, apart_: base_ + factor * apart_) for name, array in update.items()
    }


def _noise(it: Noise, update: Arrays, base: Arrays, seed: bytes) -> dict[str, Array]:
    """Add Gaussian noise to every item of every float tensor; integers and truth values leave with the base's."""
    _demand_floats("noise", update)
    source = np.random.Generator(np.random.PCG64DXSM(int.from_bytes(seed, "little")))

    def add(base_: Array, apart: Array) -> Array:
        drawn: Array = source.standard_normal(apart.size, apart.dtype)
        drawn *= it.sigma
        return base_ + apart + drawn

    return {name: _shift(update[name], base[name], add) for name in update}


def _demand_floats(filter_: str, update: Arrays) -> None:
    if update and all(array.dtype.kind in "iub" for array in update.values()):
        raise Refused(
            f"the filter {filter_!r} of the site's policy works on floats, and the model has none",
            why="integers leave with the model's values where clip or noise is on: nothing would be left of the update",
            fix="train a model of floats, or have the site's owner change the filters",
        )


def _shift(update: Array, base: Array, change: Callable[[Array, Array], Array]) -> Array:
    """Return `change(base, update - base)` of a float tensor, slice by slice, and the base of any other."""
    if update.dtype.kind in "iub":
        return base
    wide = order.wide(update.dtype)
    out = np.empty(update.shape, update.dtype)
    flat, flat_base, flat_out = update.reshape(-1), base.reshape(-1), out.reshape(-1)
    for start in range(0, flat.size, SLICE):
        part = slice(start, start + SLICE)
        from_ = flat_base[part].astype(wide, copy=False)
        flat_out[part] = change(from_, flat[part].astype(wide, copy=False) - from_)
    return out
