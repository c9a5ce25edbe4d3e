"""Partitioners by what the rows already have: an owner, a time, a feature; and one by columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from convoy.partition import checks
from convoy.partition.checks import Array, bad
from convoy.partition.rows import Partition

WIDTH: Final = 4_096  # features, of which the first principal component takes seconds
STEP: Final = 8_192  # rows at a time: memory does not grow with their number


def natural(ids: Any, *, sites: int | None = None, seed: int = 0) -> Partition:
    """Give the rows of each owner to one site: one site for each distinct id, in the order of the ids.

    Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings", section 2: writers, users, speakers. With `sites`,
    the ids are dealt to that many sites at random, to each equally many ids (to within one).
    `ids`: one for each row. Raises `BadInput`.
    """
    found = checks.labels(ids, "ids")
    owners, chance = len(found.names), checks.dice(seed)
    if sites is None:
        return Partition(tuple(found.rows()))
    number = checks.sites_of(sites, owners, what="id")
    groups = checks.even(checks.shuffled(np.arange(owners), chance), number)
    rows = found.rows()
    return Partition(tuple(np.concatenate([rows[owner] for owner in group.tolist()]) for group in groups))


def by_time(times: Any, *, sites: int) -> Partition:
    """Cut the rows in the order of time into one period for each site; the numbers of rows differ by at most one.

    `times`: one for each row: numbers, numpy times, or text that sorts by time, such as 2024-05-31. Rows of the same
    time stay in their order. Raises `BadInput`.
    """
    found = checks.ordered(times, "times")
    number = checks.sites_of(sites, len(found))
    return Partition(tuple(checks.even(np.argsort(found, kind="stable"), number)))


def feature(values: Any, *, sites: int, strength: float = 1.0, seed: int = 0) -> Partition:
    """Give each site another range of a feature; the numbers of rows differ by at most one.

    A share `strength` of the rows, drawn at random, is sorted by the feature and cut into consecutive pieces, one for
    each site; the other rows are dealt at random. So 0 is IID, and 1 sorts all. Where the values have several columns,
    the feature is their first principal component (of columns that are centred and not scaled). This is feature
    distribution skew, P(x) different from site to site: Kairouz et al. 2021, "Advances and Open Problems in Federated
    Learning", section 3.1; Li et al. 2022 (NIID-Bench), section 4.3.
    `values`: rows, or rows x features. Raises `BadInput`.
    """
    share, chance = checks.share(strength, "strength"), checks.dice(seed)
    scores = _scores(np.asarray(values))
    number = checks.sites_of(sites, len(scores))
    rows = checks.shuffled(np.arange(len(scores)), chance)
    some = round(share * len(rows))
    ordered = np.sort(rows[:some])
    own = checks.even(ordered[np.argsort(scores[ordered], kind="stable")], number)
    wanted = [len(one) for one in checks.even(rows, number)]
    others = checks.cut(rows[some:], np.array([all_ - len(mine) for all_, mine in zip(wanted, own, strict=True)]))
    return Partition(tuple(np.concatenate(both) for both in zip(own, others, strict=True)))


def _scores(values: Array) -> Array:
    """Return one number for each row: the feature, or the first principal component."""
    if values.ndim < 2:
        found = checks.ordered(values, "values")
    else:
        found = values.reshape(len(values), -1)
        if not found.size:
            raise bad("values", "there are no rows", fix="give at least one row for each site")
        if found.shape[1] > WIDTH:
            what = f"{found.shape[1]:,} features are too many for a principal component"
            raise bad("values", what, fix=f"give at most {WIDTH:,} of them")
    if found.dtype.kind not in "biuf" or not np.isfinite(found).all():
        raise bad("values", "not all of them are finite numbers", fix="give numbers, and no rows without one")
    return found if found.ndim == 1 else _principal(found)


def _principal(values: Array) -> Array:
    rows, width = values.shape
    pieces = [slice(start, start + STEP) for start in range(0, rows, STEP)]
    centre = np.sum([values[piece].astype(np.float64).sum(axis=0) for piece in pieces], axis=0) / rows
    spread = np.zeros((width, width))
    for piece in pieces:
        block = values[piece] - centre
        spread += block.T @ block
    axis = np.linalg.eigh(spread)[1][:, -1]
    axis = axis * np.sign(axis[np.argmax(np.abs(axis))])  # the sign of a component is arbitrary: let it be fixed
    return np.concatenate([(values[piece] - centre) @ axis for piece in pieces])


def columns(of: int | Sequence[str], *, sites: int, seed: int = 0, shared: Sequence[str | int] = ()) -> Partition:
    """Deal columns to sites at random, each site having all rows: vertical federated learning.

    Yang et al. 2019, "Federated Machine Learning: Concept and Applications", section 2.3.2. The numbers of columns
    differ by at most one. `of`: the number of columns, or their names; `shared`: columns that every site has as well,
    such as the id of a person, by name or by number from 0. Raises `BadInput`.
    """
    names = list(of) if not isinstance(of, int | np.integer | str) else None
    total, chance = len(names) if names is not None else checks.whole(of, "of", least=1), checks.dice(seed)
    if isinstance(shared, str):
        raise bad("shared", f"it is {shared!r}", fix="give a list of columns")
    places = [_place(one, names, total) for one in shared]
    common = np.array(sorted(set(places)), dtype=np.int64)
    free = np.setdiff1d(np.arange(total), common)
    number = checks.sites_of(sites, len(free), what="column")
    dealt = checks.even(checks.shuffled(free, chance), number)
    return Partition(tuple(np.concatenate((common, mine)) for mine in dealt), axis=1)


def _place(column: str | int, names: Sequence[str] | None, total: int) -> int:
    if isinstance(column, str) and names is not None and column in names:
        return names.index(column)
    if isinstance(column, int | np.integer) and not isinstance(column, bool) and 0 <= column < total:
        return int(column)
    fix = f"use one of {', '.join(map(str, names[:20]))}" if names else f"give numbers from 0 to {total - 1}"
    raise bad("shared", f"there is no column {column!r}", fix=fix)
