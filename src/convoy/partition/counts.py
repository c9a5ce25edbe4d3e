"""Partitioners that look at nothing but the number of rows: at random, and of unequal sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from convoy.partition import checks
from convoy.partition.checks import Array, bad
from convoy.partition.rows import Partition

LAWS: Final[Mapping[str, str]] = {"dirichlet": "alpha", "lognormal": "sigma", "power": "exponent"}


def iid(count: int, *, sites: int, seed: int = 0) -> Partition:
    """Deal rows to sites at random; the numbers of rows differ by at most one.

    McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3, "IID".
    `count`: the number of rows. Raises `BadInput`.
    """
    rows = checks.whole(count, "count", least=0)
    number, chance = checks.sites_of(sites, rows), checks.dice(seed)
    return Partition(tuple(checks.even(checks.shuffled(np.arange(rows), chance), number)))


def sizes(
    count: int,
    *,
    sites: int,
    law: str,
    alpha: float | None = None,
    sigma: float | None = None,
    exponent: float | None = None,
    seed: int = 0,
    least: int = 1,
) -> Partition:
    """Deal rows to sites at random, to each site another number of rows, by a law of sizes.

    Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study" (NIID-Bench), section 4.4,
    quantity skew. Each site has `least` rows; the others are shared out in proportion to q:
    law "dirichlet": q ~ Dir(`alpha`); law "lognormal": q = exp(`sigma` z), z ~ N(0, 1); law "power" (Zipf):
    q = k^-`exponent` for site k = 1, 2, …, so that the first site is the largest.
    `count`: the number of rows. Raises `BadInput`.
    """
    rows = checks.whole(count, "count", least=0)
    floor = checks.whole(least, "least", least=0)
    number, chance = checks.sites_of(sites, rows, each=max(floor, 1)), checks.dice(seed)
    shares = _shares(number, law, {"alpha": alpha, "sigma": sigma, "exponent": exponent}, chance)
    counts = floor + checks.apportion(shares, rows - number * floor)
    return Partition(tuple(checks.cut(checks.shuffled(np.arange(rows), chance), counts)))


def _shares(sites: int, law: str, given: Mapping[str, float | None], chance: np.random.Generator) -> Array:
    if law not in LAWS:
        raise bad("law", f"there is no law {law!r}", fix=f"use one of {', '.join(LAWS)}")
    for name, value in given.items():
        if value is not None and name != LAWS[law]:
            raise bad(name, f'the law "{law}" has no {name}', fix=f"give its {LAWS[law]}")
    if given[LAWS[law]] is None:
        raise bad("law", f'the law "{law}" needs its {LAWS[law]}', fix=f"add {LAWS[law]}, a number above 0")
    value = checks.number(given[LAWS[law]], LAWS[law])
    if law == "dirichlet":
        return checks.dirichlet_shares(chance, np.full(sites, value))
    logs = value * chance.standard_normal(sites) if law == "lognormal" else -value * np.log(np.arange(1, sites + 1))
    found: Array = np.exp(logs - logs.max())
    return found
