"""Principal components of tables at the sites, from the covariance of all rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convoy.errors import JobFailed
from convoy.flows import fitting, parameters
from convoy.flows import statistics as tables
from convoy.flows.document import Asked, text_of, written
from convoy.flows.fitting import Asking
from convoy.flows.fleet import Fleet
from convoy.flows.pooled import Moments, moments

Array = np.ndarray[Any, Any]


async def pca(
    fleet: Fleet,
    *,
    table: str,
    columns: list[str],
    components: int = 0,
    standardise: bool = False,
    min_sites: int = 1,
    deadline: str | float = "",
) -> None:
    """Find the principal components of the rows of all sites in one round; the job has no `trainer`.

    `components`: how many, the largest first; 0: as many as there are columns. `standardise`: take the correlations in
    place of the covariances. The sign of a component is such that its largest entry is positive. Where values are
    missing, each covariance is over the rows that have both columns. The components are those of scikit-learn's `PCA`
    on the rows of all sites. The result is `statistics.json`, and the arrays `components` float64 (components,
    columns), `variance` (components,), `mean` and `scale` (columns,).

    Equation: C = 1 / (n - 1) sum_k (C_k + n_k (m_k - m)(m_k - m)^T);  C v = lambda v
        C_k: the sum of products of deviations of the rows of site k from their mean m_k; share: lambda / trace C

    Use it: to see how many directions a table really has, and which columns go together.

    Leaves the site: counts, means, sums of squares and of products of each pair of columns, as with the correlations of
    `statistics`, so it is admitted where those are.

    Paper: Jolliffe: Principal Component Analysis, 2002, section 1.1. Covariance: Chan, Golub, LeVeque, 1983.
    """
    given = {"columns": columns, "components": components}
    parameters.require(wrong({**given, "min_sites": min_sites}))
    asking = Asking.of(table, min_sites, deadline)
    asked = Asked(table, columns, ["correlation"], "", 1, {}, [])
    async for round in fleet.rounds(1):  # noqa: A001 - the field's word
        settings, reply = tables.settings(asked, None), tables.wanted(asked)
        found, left_out = await asking.of_sites(fleet, "statistics", {}, settings, reply)
        short = {site for site, it in found.items() if (it["pairs.count"] < 1).any()}
        if len(found) - len(short) < min_sites:
            raise JobFailed(
                f"{len(found) - len(short)} of the {min_sites} sites that it needs release all pairs of columns",
                why=f"{', '.join(sorted(short))}: too few rows have both columns of a pair, or lack one of them",
                fix="leave out the columns with missing values",
            )
        each = [it for site, it in found.items() if site not in short]
        mean, covariance = pooled_covariance(each)
        scale = np.sqrt(np.diag(covariance)) if standardise else np.ones(len(columns))
        if not (scale > 0).all():
            raise JobFailed(f"{columns[int(np.argmin(scale))]} has the same value in all rows", fix="leave it out")
        values, vectors = principal(covariance / np.outer(scale, scale))
        rows = sum(int(it["rows"][0]) for it in each)
        told: dict[str, Any] = {"table": table, "sites": [site for site in found if site not in short]}
        told |= {
            "left_out": {**left_out, **dict.fromkeys(sorted(short), "a pair of columns is suppressed")},
            "rows": rows,
        }
        size = components or len(columns)
        told |= _document(columns, values, vectors[:size])
        arrays = {"components": vectors[:size], "variance": values[:size], "mean": mean, "scale": scale}
        await round.commit(written(told, arrays), metrics={"sites": len(each), "rows": float(rows)})


def pooled_covariance(each: Sequence[Mapping[str, Array]]) -> tuple[Array, Array]:
    """Return mean float64 (columns,) and covariance (columns, columns) of all rows, from the pairs of each site."""
    width = each[0]["pairs.count"].shape[0]
    mean, covariance = np.zeros(width), np.zeros((width, width))
    for first, second in itertools.combinations_with_replacement(range(width), 2):
        sides = [(first, second), (second, first)]
        one, other = (
            moments([Moments(*(it[f"pairs.{name}"][side].item() for name in ("count", "mean", "m2"))) for it in each])
            for side in sides
        )
        parts = [(it["pairs.count"][first, second].item(), *(it["pairs.mean"][side].item() for side in sides),
                  it["pairs.comoment"][first, second].item()) for it in each]  # fmt: skip
        apart = (count * (a - one.mean) * (b - other.mean) for count, a, b, _ in parts)
        whole = math.fsum([*(comoment for *_, comoment in parts), *apart])
        covariance[first, second] = covariance[second, first] = whole / max(one.count - 1, 1)
        if first == second:
            mean[first] = one.mean
    return mean, covariance


def principal(matrix: Array) -> tuple[Array, Array]:
    """Return eigenvalues, the largest first, float64 (n,), and eigenvectors as rows (n, n), largest entry positive.

    Raises `JobFailed` for a matrix that is no covariance, as missing values can make one.
    """
    values, vectors = np.linalg.eigh(matrix)
    if values[0] < -1e-9 * max(values[-1], 0.0):
        raise JobFailed(
            "the covariances do not belong to one table",
            why="with missing values, each pair of columns is over other rows",
            fix="leave out the columns with missing values",
        )
    rows = vectors.T[::-1]
    signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)])
    return np.maximum(values[::-1], 0.0), rows * signs[:, None]


def _document(columns: Sequence[str], values: Array, vectors: Array) -> dict[str, Any]:
    """Return the components, their tables and the scree plot."""
    shares = values / max(float(values.sum()), math.ulp(0.0))
    reached = np.cumsum(shares)
    listed = [
        {
            "component": place + 1,
            "variance": float(values[place]),
            "share": float(shares[place]),
            "cumulative": float(reached[place]),
            "loadings": dict(zip(columns, vectors[place].tolist(), strict=True)),
        }
        for place in range(len(vectors))
    ]
    names = [f"{place + 1}" for place in range(len(vectors))]
    head = ["component", "variance", "share", "cumulative"]
    rows = [[name, *(text_of(it[key]) for key in head[1:])] for name, it in zip(names, listed, strict=True)]
    loadings = [[column, *map(text_of, vectors[:, place].tolist())] for place, column in enumerate(columns)]
    return {
        "components": listed,
        "tables": [
            {"title": "components", "heads": head, "rows": rows},
            {"title": "loadings", "heads": ["column", *names], "rows": loadings},
        ],
        "pictures": [
            {
                "kind": "bars", "name": "components", "x": "component", "y": "share of the variance", "labels": names,
                "heights": shares[: len(vectors)].tolist(),
            }
        ],
    }  # fmt: skip


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found = fitting.faults(given)
    width = len(given.get("columns") or [])
    if not 0 <= given.get("components", 0) <= width:
        found["components"] = f"wanted 0 to {width}, the number of columns"
    return found
