"""What partitioners accept: each argument checked once, and random numbers that follow from a seed alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convoy.errors import BadInput

Array = np.ndarray[Any, Any]
SITES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels as codes from 0: `names[codes[row]]` is the label of a row."""

    codes: Array  # int64, one for each row
    names: tuple[str, ...]  # in the order of the labels: numbers by size, words by letters

    def rows(self) -> list[Array]:
        """Return the rows of each label, each in order."""
        order = np.argsort(self.codes, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.codes, minlength=len(self.names)))[:-1])


def labels(values: Any, name: str = "labels") -> Labels:
    """Return labels, or ids, that are whole numbers, words or booleans. Raises `BadInput`."""
    found = one_each(values, name)
    if found.dtype.kind == "O":
        found = _plain(found, name)
    if found.dtype.kind == "f":
        if not np.isfinite(found).all():
            place = int(np.flatnonzero(~np.isfinite(found))[0])
            raise bad(name, f"row {place} has no value ({found[place]})", fix="leave out the rows without one")
        if not (found == np.floor(found)).all() or np.abs(found).max() >= 2**53:
            raise bad(name, "they are not whole numbers", fix="divide by whole numbers, words or booleans")
        found = found.astype(np.int64)
    if found.dtype.kind not in "biuUS":
        raise bad(name, f"they are of dtype {found.dtype}", fix="give whole numbers, words or booleans")
    known, codes = np.unique(found, return_inverse=True)
    words = known.astype("U") if known.dtype.kind == "S" else known
    return Labels(codes.reshape(-1).astype(np.int64), tuple(str(one) for one in words.tolist()))


def _plain(found: Array, name: str) -> Array:
    """Return objects that are all words, or all numbers, as such an array."""
    kinds = {type(one) for one in found.tolist()}
    if not (kinds == {str} or kinds <= {int, float, bool} or kinds == {bytes}):
        seen = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise bad(
            name,
            f"they are of several kinds: {seen}",
            fix="give only words, or only whole numbers; leave out the rows without a value",
        )
    return np.array(found.tolist())


def one_each(values: Any, name: str) -> Array:
    """Return what has one value for each row, and at least one row. Raises `BadInput`."""
    found = np.asarray(values)
    if found.ndim != 1:
        raise bad(name, f"the shape is {found.shape}", fix="give one value for each row")
    if not len(found):
        raise bad(name, "there are no rows", fix="give at least one row for each site")
    return found


def ordered(values: Any, name: str) -> Array:
    """Return one value for each row that can be put in order: numbers, times, words. Raises `BadInput`."""
    found = one_each(values, name)
    if found.dtype.kind == "O":
        kinds = {type(one) for one in found.tolist()}
        if len(kinds) > 1 or None in found.tolist():
            raise bad(name, "the values are of several kinds, or some are missing", fix="give values of one kind")
    elif (found.dtype.kind == "f" and np.isnan(found).any()) or (found.dtype.kind in "mM" and np.isnat(found).any()):
        raise bad(name, "some values are missing", fix="leave out the rows without a value")
    return found


def sites_of(sites: Any, rows: int, *, each: int = 1, what: str = "row") -> int:
    """Return the number of sites, for each of which there must be `each` rows. Raises `BadInput`."""
    count = whole(sites, "sites", least=1)
    if count > SITES:
        raise bad("sites", f"{count:,} sites are too many", fix=f"the limit is {SITES:,}")
    if rows < count * each:
        least = f"at least {each:,} {what}{'s' if each > 1 else ''}" if each > 1 else f"a {what}"
        raise bad(
            "sites",
            f"{rows:,} {what}{'s' if rows != 1 else ''} are too few for {count:,} sites",
            why=f"each site gets {least}",
            fix=f"use at most {rows // each:,} sites" if rows >= each else f"give more {what}s",
        )
    return count


def whole(value: Any, name: str, *, least: int) -> int:
    """Return a whole number of at least `least`. Raises `BadInput`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise bad(name, f"it is {value!r}", fix=f"give a whole number from {least} up")
    return int(value)


def number(value: Any, name: str, *, above: float = 0.0) -> float:
    """Return a finite number above a bound. Raises `BadInput`."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not above < value < math.inf:
        raise bad(name, f"it is {value!r}", fix=f"give a finite number above {above:g}")
    return float(value)


def share(value: Any, name: str) -> float:
    """Return a number from 0 to 1. Raises `BadInput`."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
        raise bad(name, f"it is {value!r}", fix="give a number from 0 to 1")
    return float(value)


def bad(name: str, what: str, *, why: str = "", fix: str = "") -> BadInput:
    """Return the error for an argument; its `where` is the argument's name."""
    return BadInput(what, why=why, fix=fix, where=name)


def dice(seed: Any) -> np.random.Generator:
    """Return random numbers that follow from the seed alone. Raises `BadInput`."""
    return np.random.Generator(np.random.PCG64(whole(seed, "seed", least=0)))


def shuffled(rows: Array, chance: np.random.Generator) -> Array:
    """Return rows in random order: sorted by uniform numbers, which no version of numpy draws in another way."""
    found: Array = rows[np.argsort(chance.random(len(rows)), kind="stable")]
    return found


def even(rows: Array, sites: int) -> list[Array]:
    """Return rows cut into consecutive pieces whose sizes differ by at most one, the larger ones first."""
    pieces: list[Array] = np.array_split(rows, sites)
    return pieces


def apportion(shares: Array, total: int) -> Array:
    """Return whole numbers in proportion to the shares, with the sum `total`: the largest remainders are rounded up."""
    exact = shares / shares.sum() * total
    counts: Array = np.floor(exact).astype(np.int64)
    missing = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return counts


def cut(rows: Array, counts: Array) -> list[Array]:
    """Return consecutive pieces of these sizes; what is left belongs to nobody."""
    pieces: list[Array] = np.split(rows, np.cumsum(counts))
    return pieces[:-1]


def dirichlet_shares(chance: np.random.Generator, alpha: Array) -> Array:
    """Return one draw of a Dirichlet distribution. Raises `BadInput` where it is out of the range of floats."""
    with np.errstate(all="ignore"):
        found: Array = chance.dirichlet(alpha)
    if not 0.5 < found.sum() < 1.5:  # it is 1, but for rounding
        raise bad("alpha", f"{alpha[0]:g} is out of the range of floats", fix="give a number from 1e-6 to 1e6")
    return found
