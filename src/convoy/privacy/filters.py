"""Filters: what a site does to every update before it leaves, in the order of its policy."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.errors import BadInput, Refused
from convoy.model import schema

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]
    Arrays = Mapping[str, Array]

Filter = Callable[["Arrays", "Arrays"], "dict[str, Array]"]
"""Update and its base in, what may leave out: the same names, shapes and dtypes. A filter keeps no state."""

SLICE: Final = 1 << 16  # items


def chain(policy: Iterable[Mapping[str, Any]], *, seed: bytes | None = None) -> list[Filter]:
    """Return the filters of a policy, each item a mapping of one name to its argument.

    `seed` makes noise repeatable, for whoever must send the same bits again after a crash: it has to be secret, and
    another one for every task. Without it each noise is new. Raises `BadInput` for a filter that nobody knows.
    """
    made: list[Filter] = []
    for place, item in enumerate(policy):
        ((name, argument),) = item.items()
        match name:
            case "exclude":
                made.append(exclude(argument))
            case "clip":
                made.append(clip(float(argument["norm"])))
            case "noise":
                made.append(noise(float(argument["sigma"]), seed=None if seed is None else seed + bytes([place % 256])))
            case _:
                raise BadInput(f"there is no filter {name!r}", fix="known are exclude, clip and noise")
    return made


def apply(filters: Iterable[Filter], update: Arrays, base: Arrays) -> Arrays:
    """Pass an update through filters, one after the other."""
    for step in filters:
        update = step(update, base)
    return update


def exclude(patterns: Sequence[str]) -> Filter:
    """Return a filter that puts the base's values in place of tensors whose name matches a pattern (`head.*`)."""

    def run(update: Arrays, base: Arrays) -> dict[str, Array]:
        return {
            name: base[name] if any(fnmatchcase(name, pattern) for pattern in patterns) else array
            for name, array in update.items()
        }

    return run


def clip(norm: float) -> Filter:
    """Return a filter that shortens (update - base) to an L2 norm of at most `norm`, over all float tensors together.

    Integers and truth values have no norm: they leave with the base's values.

    Abadi et al.: Deep Learning with Differential Privacy, 2016, section 3.1, on a whole update instead of a gradient.
    """

    def run(update: Arrays, base: Arrays) -> dict[str, Array]:
        _demand_floats("clip", update)
        apart = schema.distance(update, base)
        if apart <= norm:
            return {name: base[name] if array.dtype.kind in "iub" else array for name, array in update.items()}
        factor = norm / apart
        return {
            name: _shift(array, base[name], lambda base_, apart_: base_ + factor * apart_)
            for name, array in update.items()
        }

    return run


def noise(sigma: float, *, seed: bytes | None = None) -> Filter:
    """Return a filter that adds Gaussian noise of standard deviation `sigma` to every item of every float tensor.

    Integers and truth values cannot take it: they leave with the base's values.
    """

    def run(update: Arrays, base: Arrays) -> dict[str, Array]:
        _demand_floats("noise", update)
        entropy = secrets.token_bytes(32) if seed is None else seed
        source = np.random.Generator(np.random.PCG64DXSM(int.from_bytes(entropy, "little")))

        def add(base_: Array, apart: Array) -> Array:
            drawn: Array = source.standard_normal(apart.size, apart.dtype)
            drawn *= sigma
            return base_ + apart + drawn

        return {name: _shift(update[name], base[name], add) for name in update}

    return run


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
    wide = update.dtype if update.dtype.itemsize >= 4 else np.dtype(np.float32)
    out = np.empty(update.shape, update.dtype)
    flat, flat_base, flat_out = update.reshape(-1), base.reshape(-1), out.reshape(-1)
    for start in range(0, flat.size, SLICE):
        part = slice(start, start + SLICE)
        from_ = flat_base[part].astype(wide, copy=False)
        flat_out[part] = change(from_, flat[part].astype(wide, copy=False) - from_)
    return out
