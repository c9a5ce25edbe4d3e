"""k-means over tables at the sites: Lloyd's algorithm on exact sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from convoy.errors import JobFailed
from convoy.flows import fitting, parameters
from convoy.flows.document import text_of, written
from convoy.flows.fitting import Asking, Shapes, counted, scales, total
from convoy.flows.fleet import Fleet

MAX_CLUSTERS: Final = 1000  # each is a pass over the table, and a line for people
SHOWN: Final = 50  # clusters in the picture

Array = np.ndarray[Any, Any]


async def kmeans(
    fleet: Fleet,
    *,
    table: str,
    columns: list[str],
    clusters: int = 0,
    start: list[list[float]] | None = None,
    seed: int = 0,
    standardise: bool = False,
    rounds: int = 100,
    tolerance: float = 1e-9,
    min_sites: int = 1,
    deadline: str | float = "",
) -> None:
    """Find the centres of `clusters` groups of rows, all sites together; the job has no `trainer`.

    `columns`: columns of numbers; rows in which one is missing do not count. `start`: the first centres, in the units
    of the columns; without it, `clusters` of them are drawn with `seed`, uniformly within a standard deviation of the
    mean. `standardise`: measure distances in standard deviations of each column. It ends when no centre moves by more
    than `tolerance`, or after `rounds`. A centre to which no row is nearest stays where it is. A site adds nothing to a
    cluster of which it has too few rows. If no site has such a cluster, the centres are those of scikit-learn's
    `KMeans(init=start, n_init=1, algorithm="lloyd", tol=0)` on the rows of all sites. The result is `statistics.json`,
    and the arrays `centres` float64 (clusters, columns) and `count` int64 (clusters,).

    Equation: c_j' = sum_k S_kj / sum_k n_kj
        S_kj, n_kj: sum and number of the rows of site k to which c_j is the nearest centre

    Use it: to find groups of rows that are alike, over data that cannot be pooled. It finds a local optimum: try some.

    Leaves the site: mean and standard deviation of each column, where the centres are drawn or `standardise` is true;
    in each round, the number, the sum and the squared distances of the rows of each cluster that has at least as many
    rows as the site's policy says.

    Paper: Lloyd: Least Squares Quantization in PCM, 1982, algorithm I.
    """
    given = {"columns": columns, "clusters": clusters, "start": start, "tolerance": tolerance}
    parameters.require(wrong({**given, "rounds": rounds, "min_sites": min_sites}))
    asking = Asking.of(table, min_sites, deadline)
    size = len(start) if start else clusters
    shape = (size, len(columns))
    counts: Shapes = {"clusters.count": ("i8", (size,)), "clusters.squares": ("f8", (size,))}
    reply: Shapes = {**counts, "clusters.sum": ("f8", shape)}

    def drawn() -> Array:
        return np.random.default_rng(seed).uniform(-1.0, 1.0, shape)

    async for round in fleet.rounds(rounds):  # noqa: A001 - the field's word
        if fitting.is_done(fleet):
            return
        state = dict(round.state) or await _begin(fleet, asking, columns, start, drawn=drawn, standardise=standardise)
        found, left_out = await asking.of_sites(fleet, "kmeans", state, {"columns": columns}, reply)
        centres, count, inertia = step(list(found.values()), state["centres"])
        moved = float(np.sqrt(((centres - state["centres"]) ** 2).sum(1)).max())
        told: dict[str, Any] = {"table": table, "sites": [*found], "left_out": dict(left_out), "rows": int(count.sum())}
        told |= {"rounds": round.number, "converged": moved <= tolerance, "inertia": inertia}
        plain = centres * state["scale"] + state["middle"]
        told |= _document(columns, count, plain, centres, found, standardise=standardise)
        metrics = {"inertia": inertia, "moved": moved, "rows": count.sum(), "converged": float(moved <= tolerance)}
        arrays = written(told, {"centres": plain, "count": count})
        await round.commit(arrays, state={**state, "centres": centres}, metrics=metrics)


def step(each: Sequence[Mapping[str, Array]], centres: Array) -> tuple[Array, Array, float]:
    """Return the next centres, float64 (k, columns), the rows of each, int64 (k,), and the squared distances.

    `each`: the arrays of each site; distances are from `centres`, those before. Raises `JobFailed` without any rows.
    """
    count, sums = counted([it["clusters.count"] for it in each]), total([it["clusters.sum"] for it in each])
    if not count.any():
        raise JobFailed(
            "no site has enough rows in any cluster", fix="ask for fewer clusters, or give others as `start`"
        )
    inertia = math.fsum(total([it["clusters.squares"] for it in each]).tolist())
    return np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], centres), count, inertia


async def _begin(
    fleet: Fleet,
    asking: Asking,
    columns: Sequence[str],
    start: Sequence[Sequence[float]] | None,
    *,
    drawn: Callable[[], Array],
    standardise: bool,
) -> dict[str, Array]:
    """Return the first centres, and by what rows are standardised; `drawn`: centres in standard deviations."""
    mean, deviation = np.zeros(len(columns)), np.ones(len(columns))
    if standardise or start is None:
        mean, deviation = await scales(fleet, asking, columns)
    centres = mean + deviation * drawn() if start is None else np.array(start, np.float64)
    if not standardise:
        return {"middle": np.zeros_like(mean), "scale": np.ones_like(deviation), "centres": centres}
    return {"middle": mean, "scale": deviation, "centres": (centres - mean) / deviation}


def _document(
    columns: Sequence[str],
    count: Array,
    plain: Array,
    centres: Array,
    sites: Mapping[str, Mapping[str, Array]],
    *,
    standardise: bool,
) -> dict[str, Any]:
    """Return clusters, their table and their picture."""
    listed, rows, lines = [], [], []
    for place, rows_in in enumerate(count.tolist()):
        name, away = str(place + 1), [site for site, it in sites.items() if it["clusters.count"][place] < 0]
        listed.append({"cluster": name, "rows": rows_in, "centre": plain[place].tolist(), "suppressed_at": away})
        rows.append([name, text_of(rows_in), *map(text_of, plain[place].tolist())])
        line = {"x": list(range(len(columns))), "y": centres[place].tolist()}
        lines.append({"label": f"cluster {name}: {rows_in} rows", **line})
    table = {"title": f"clusters of {int(count.sum())} rows", "heads": ["cluster", "rows", *columns], "rows": rows}
    what = "centre, in standard deviations from the mean" if standardise else "centre"
    picture = {"kind": "lines", "name": "clusters", "x": "", "y": what, "ticks": [*columns], "lines": lines[:SHOWN]}
    return {"clusters": listed, "tables": [table], "pictures": [picture]}


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found = fitting.faults(given)
    start, clusters, width = given.get("start"), given.get("clusters", 0), len(given.get("columns") or [])
    if start is None:
        if not 1 <= clusters <= MAX_CLUSTERS:
            found["clusters"] = f"wanted 1 to {MAX_CLUSTERS}, or the first centres as `start`"
    elif not 1 <= len(start) <= MAX_CLUSTERS or any(not _are_numbers(centre, width) for centre in start):
        found["start"] = f"wanted lists of {width} numbers, one for each centre, in the order of `columns`"
    elif clusters not in (0, len(start)):
        found["clusters"] = f"`start` has {len(start)} centres: leave this out"
    if not 0 <= given.get("tolerance", 0.0) < math.inf:
        found["tolerance"] = "wanted a number from 0 up"
    return found


def _are_numbers(centre: Any, width: int) -> bool:
    if not isinstance(centre, list) or len(centre) != width:
        return False
    return all(isinstance(it, int | float) and not isinstance(it, bool) and abs(it) <= 1e100 for it in centre)
