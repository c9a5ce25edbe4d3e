"""Partitioners by label: sites whose labels are distributed differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convoy.partition import checks
from convoy.partition.checks import Array, bad
from convoy.partition.rows import Partition


def dirichlet(
    labels: Any, *, sites: int, alpha: float, equal: bool = False, seed: int = 0, least: int = 1
) -> Partition:
    """Give each site another mixture of labels, drawn from a Dirichlet distribution; a small `alpha` is a strong skew.

    The rows of each label k are cut in proportions p_k ~ Dir(`alpha`, …, `alpha`) over the sites: Yurochkin et al.
    2019, "Bayesian Nonparametric Federated Learning of Neural Networks", section 4; Li et al. 2022, "Federated Learning
    on Non-IID Data Silos: An Experimental Study" (NIID-Bench), section 4.2. Sites then have different numbers of rows.

    With `equal`, all have the same number (to within one), and each site i draws its labels by q_i ~ Dir(`alpha` p)
    without replacement, where p is the distribution of the labels in the whole data set: Hsu, Qi, Brown 2019,
    "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", section 3.

    A site that the draw leaves with fewer than `least` rows takes random rows of the largest sites until it has them.
    `labels`: one for each row. Raises `BadInput`.
    """
    found = checks.labels(labels)
    floor = checks.whole(least, "least", least=0)
    number = checks.sites_of(sites, len(found.codes), each=max(floor, 1))
    skew, chance = checks.number(alpha, "alpha"), checks.dice(seed)
    pools = [checks.shuffled(rows, chance) for rows in found.rows()]
    counts = _equal(pools, number, skew, chance) if equal else _spread(pools, number, skew, chance)
    holder = _holders(pools, counts, len(found.codes))
    return _parts(_filled(holder, number, floor, chance), number, labels)


def _spread(pools: Sequence[Array], sites: int, alpha: float, chance: np.random.Generator) -> list[Array]:
    """Return how many rows of each label every site gets."""
    drawn = []
    for pool in pools:
        ends = np.cumsum(checks.dirichlet_shares(chance, np.full(sites, alpha)))
        drawn.append(np.diff(np.rint(ends / ends[-1] * len(pool)).astype(np.int64), prepend=0))
    return drawn


def _equal(pools: Sequence[Array], sites: int, alpha: float, chance: np.random.Generator) -> list[Array]:
    """Return how many rows of each label every site gets where all have the same number of rows."""
    left = np.array([len(pool) for pool in pools])
    wanted, mix = [len(one) for one in checks.even(np.arange(left.sum()), sites)], left / left.sum()
    counts = np.zeros((sites, len(pools)), dtype=np.int64)
    for site in chance.permutation(sites):  # the last ones get what is left: let it be any sites
        shares = checks.dirichlet_shares(chance, alpha * mix)
        while (missing := wanted[site] - int(counts[site].sum())) > 0:
            open_ = np.where(left > 0, shares, 0.0)
            if not open_.sum() > 0:  # all labels of this mixture are used up
                open_ = left.astype(np.float64)
            taken = np.minimum(chance.multinomial(missing, open_ / open_.sum()), left)
            counts[site] += taken
            left -= taken
    return list(counts.T)


def _filled(holder: Array, sites: int, least: int, chance: np.random.Generator) -> Array:
    """Return who holds each row, after every site with fewer than `least` rows took some of the largest sites."""
    counts = np.bincount(holder, minlength=sites)
    short = np.repeat(np.arange(sites), np.maximum(least - counts, 0))
    if not len(short):
        return holder
    # The largest sites give down to one level, which is the highest that frees enough rows.
    low, high = least, int(counts.max())
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if np.maximum(counts - level, 0).sum() >= len(short) else (low, level - 1)
    order = checks.shuffled(np.arange(len(holder)), chance)
    order = order[np.argsort(holder[order], kind="stable")]  # by site, in random order within each
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    spare = checks.shuffled(order[place >= np.maximum(low, least)], chance)[: len(short)]
    moved = holder.copy()
    moved[spare] = short
    return moved


def classes(labels: Any, *, sites: int, each: int, seed: int = 0) -> Partition:
    """Give each site rows of exactly `each` labels, chosen at random so that all labels have equally many sites.

    Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study" (NIID-Bench), section 4.2,
    "#C = k". The rows of a label are divided evenly among the sites that have it.
    `labels`: one for each row. Raises `BadInput` where the sites cannot hold all labels, and where a label has fewer
    rows than sites.
    """
    found = checks.labels(labels)
    number = checks.sites_of(sites, len(found.codes))
    every, chance = checks.whole(each, "each", least=1), checks.dice(seed)
    if every > len(found.names):
        raise bad("each", f"{every} labels at each site, of {len(found.names)} in all", fix="use fewer at each site")
    if number * every < len(found.names):
        why = f"{number} sites with {every} each have room for {number * every} of {len(found.names)} labels"
        raise bad("each", "some labels would be at no site", why=why, fix="use more sites, or more labels at each")
    held = np.zeros(len(found.names), dtype=np.int64)
    members: list[list[int]] = [[] for _ in found.names]
    for site in range(number):
        chosen = np.lexsort((chance.random(len(held)), held))[:every]  # those with the fewest sites, at random
        held[chosen] += 1
        for code in chosen.tolist():
            members[code].append(site)
    holder = np.empty(len(found.codes), dtype=np.int64)
    for name, rows, mine in zip(found.names, found.rows(), members, strict=True):
        if len(rows) < len(mine):
            what = f"the label {name} has {len(rows)} rows for {len(mine)} sites"
            raise bad("each", what, fix="use fewer sites, or fewer labels at each site")
        for site, part in zip(mine, checks.even(checks.shuffled(rows, chance), len(mine)), strict=True):
            holder[part] = site
    return _parts(holder, number, labels)


def shards(labels: Any, *, sites: int, each: int = 2, seed: int = 0) -> Partition:
    """Sort the rows by label, cut them into `sites` x `each` shards of equal size, and deal `each` shards to each site.

    McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3,
    "Pathological Non-IID", where each site has 2 shards. The sizes of shards differ by at most one row.
    `labels`: one for each row. Raises `BadInput`.
    """
    found = checks.labels(labels)
    every, chance = checks.whole(each, "each", least=1), checks.dice(seed)
    number = checks.sites_of(sites, len(found.codes), each=every)
    pieces = checks.even(np.concatenate(found.rows()), number * every)
    dealt = checks.shuffled(np.arange(len(pieces)), chance).reshape(number, every)
    mine = tuple(np.concatenate([pieces[place] for place in places]) for places in dealt.tolist())
    return Partition(mine, np.asarray(labels))


def given(labels: Any, table: Any, *, seed: int = 0) -> Partition:
    """Divide the rows as a table says: a line for each site, a column for each label, in the order of the labels.

    Whole numbers are numbers of rows. Numbers with a point are shares of the label's rows, and each column's sum is at
    most 1. Which rows it is, is drawn at random; rows that the table gives to nobody are left out.
    `labels`: one for each row; `table`: sites x labels. Raises `BadInput`.
    """
    found, chance = checks.labels(labels), checks.dice(seed)
    try:
        wanted = np.asarray(table)
    except ValueError as error:
        raise bad("table", "the lines have different lengths", fix="give one number for each label") from error
    if wanted.ndim != 2 or wanted.shape[1] != len(found.names) or not wanted.shape[0]:
        why = f"its shape is {wanted.shape}, and there are {len(found.names)} labels: {', '.join(found.names[:10])}"
        raise bad("table", "it has not one number for each site and label", why=why, fix="give a line for each site")
    if wanted.dtype.kind not in "iuf" or not np.isfinite(wanted).all() or (wanted < 0).any():
        raise bad("table", "not all of it are numbers from 0 up", fix="give numbers of rows, or shares such as 0.25")
    holder = np.full(len(found.codes), -1, dtype=np.int64)
    for name, rows, column in zip(found.names, found.rows(), wanted.T, strict=True):
        ends = np.cumsum(column)
        if wanted.dtype.kind == "f":
            if ends[-1] > 1 + 1e-9:
                raise bad("table", f"the shares of the label {name} sum to {ends[-1]:g}", fix="they are at most 1")
            ends = np.rint(ends * len(rows))
        if ends[-1] > len(rows):
            what = f"it wants {int(ends[-1])} rows of the label {name}, which has {len(rows)}"
            raise bad("table", what, fix="use numbers with a point for shares")
        dealt = checks.cut(checks.shuffled(rows, chance), np.diff(ends.astype(np.int64), prepend=0))
        for site, part in enumerate(dealt):
            holder[part] = site
    return _parts(holder, len(wanted), labels)


def _holders(pools: Sequence[Array], counts: Sequence[Array], rows: int) -> Array:
    """Return the site of each row, from the rows of each label and how many of them each site gets."""
    holder = np.empty(rows, dtype=np.int64)
    for pool, each in zip(pools, counts, strict=True):
        holder[pool] = np.repeat(np.arange(len(each)), each)
    return holder


def _parts(holder: Array, sites: int, labels: Any) -> Partition:
    """Return the partition in which row r belongs to `holder[r]`, or to nobody where that is -1."""
    order = np.argsort(holder, kind="stable")
    counts = np.bincount(holder[holder >= 0], minlength=sites)
    return Partition(tuple(checks.cut(order[int((holder < 0).sum()) :], counts)), np.asarray(labels))
