"""Statistics of tables at the sites, within what the policy of each site lets leave."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from convoy.flows import document, parameters
from convoy.flows.document import KNOWN, Asked, FromSite
from convoy.flows.fleet import Answers, Fleet
from convoy.flows.pooled import MAX_COUNT, MAX_SQUARE, MAX_VALUE
from convoy.model.update import Update
from convoy.spec.units import duration_s

MAX_BINS: Final = 1000  # of a histogram
MAX_COLUMNS: Final = 500  # of one job: a matrix of correlations has the square of it
DEFAULT: Final = ("count", "missing", "mean", "std", "quantiles", "histogram")


async def statistics(
    fleet: Fleet,
    *,
    table: str,
    columns: list[str],
    statistics: list[str] = [*DEFAULT],  # noqa: B006 - shown in the reference, and never changed
    by: str = "",
    groups: list[str] | None = None,
    bins: int = 20,
    ranges: dict[str, list[float]] | None = None,
    quantiles: list[float] = [0.25, 0.5, 0.75],  # noqa: B006
    min_sites: int = 1,
    quorum: int = 0,
    grace: str | float = 0.0,
    deadline: str | float = "",
) -> None:
    """Describe columns of numbers in one round; the sites' part is Convoy's own, so the job has no `trainer`.

    `table`: the name of a table among the site's data. `statistics`: of count, missing, sum, mean, variance,
    std, min, max, histogram, quantiles, correlation. `by`: a column whose values are the groups; `groups`: those that
    are asked for, else all that a site may release. `bins`: of each histogram, about; `ranges`: its range by column,
    such as `{age: [0, 100]}`, else between the 2 % and 98 % quantiles. Counts are exact, moments those of all rows
    together to rounding, and each quantile has an interval in which it lies. A site suppresses what its policy does
    not let leave. The result is `statistics.json`, and among the arrays `rows` int64 (1 + groups,), `count` int64,
    `mean` and `m2` float64 (1 + groups, columns): first of all rows, then of each group; count -1 where no site
    releases it.

    Equation: rows = sum_k n_k;  mean = sum_k n_k mean_k / rows
        m2 = sum_k (m2_k + n_k (mean_k - mean)^2);  variance = m2 / (rows - 1)

    Use it: to learn what the sites have, before and instead of training: how many rows, how they are distributed, what
    is missing, and how groups differ.

    Leaves the site: counts, means and sums of squares of all rows and of each group, and counts of fixed parts of a
    column's range; each of at least as many rows as the site's policy says, and rounded as it says.

    Paper: Chan, Golub, LeVeque: Algorithms for Computing the Sample Variance, 1983. Quantiles: intervals halved while
    their rows suffice, as in a q-digest (Shrivastava et al.: Medians and Beyond, 2004, section 3).
    """
    stated = {"columns": columns, "statistics": statistics, "by": by, "groups": groups, "bins": bins, "ranges": ranges}
    parameters.require(wrong({**stated, "table": table, "quantiles": quantiles}))
    asked = Asked(table, columns, statistics, by, bins, ranges or {}, quantiles)
    async for round in fleet.rounds(1):  # noqa: A001 - the field's word
        answers = fleet.ask(
            "statistics",
            {},
            reply=wanted(asked),
            reply_limit="16Mi",
            settings=settings(asked, groups),
            at_least=min_sites,
            quorum=quorum,
            grace=grace,
            deadline_s=duration_s(deadline) if deadline else 0.0,
        )
        received = [it async for it in _possible(answers, asked, groups)]
        made, arrays = document.made(asked, received, answers.left_out)
        metrics = {"sites": len(received), "rows": sum(int(one.arrays["rows"][0]) for one in received)}
        await round.commit(document.written(made, arrays), metrics=metrics)


async def _possible(answers: Answers, asked: Asked, groups: Sequence[str] | None) -> AsyncIterator[FromSite]:
    """Yield what the sites measured; an answer that cannot be is left out."""
    async for answer in answers:
        if problem := impossible(answer, asked, groups):
            answer.leave_out(problem)
            continue
        names = groups or (answer.value["groups"] if asked.by and groups is None else [])
        rows = {name: 1 + place for place, name in enumerate(names)}
        yield FromSite(answer.site, rows, {name: np.asarray(it) for name, it in answer.model.items()})


def settings(asked: Asked, groups: Sequence[str] | None) -> dict[str, Any]:
    """Return what a trainer measures."""
    wants = set(asked.statistics)
    return {
        "table": asked.table,
        "columns": list(asked.columns),
        "by": asked.by,
        "groups": groups,
        "parts": bool(wants & {"histogram", "quantiles"}),
        "pairs": "correlation" in wants,
        "extremes": bool(wants & {"min", "max"}),
    }


def wanted(asked: Asked) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """Return the arrays of an answer; rows are first of all rows, then of each group, and count -1 is suppressed.

    `parts.*`: an entry for each part of a column (`parts.column`), of all rows (`parts.group` -1) or of a group.
    """
    width, options = len(asked.columns), settings(asked, None)
    found: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "rows": ("i8", (None,)),
        "minimum": ("i8", (1,)),
        "extremes": ("i8", (1,)),
        "moments.count": ("i8", (None, width)),
        **{f"moments.{name}": ("f8", (None, width)) for name in ("mean", "m2", "min", "max")},
    }
    if options["pairs"]:
        found["pairs.count"] = ("i8", (width, width))
        found |= {f"pairs.{name}": ("f8", (width, width)) for name in ("mean", "m2", "comoment")}
    if options["parts"]:
        found |= {f"parts.{name}": ("i8", (None,)) for name in ("column", "group")}
        found |= {f"parts.{name}": ("f8", (None,)) for name in ("low", "high")}
        found["parts.count"] = ("i8", (None,))
    return found


def impossible(answer: Update, asked: Asked, groups: Sequence[str] | None) -> str:
    """Return what cannot be in an answer; empty if it can."""
    names: Sequence[str] = groups or []
    if asked.by and groups is None:
        named = answer.value.get("groups") if isinstance(answer.value, Mapping) else None
        names = named if isinstance(named, list) else []
        if named != [] and not _names(names):
            return "it does not name its groups: give `groups`, or let the policy of the site have `values: true`"
    arrays = {name: np.asarray(it) for name, it in answer.model.items()}
    rows = [it for name, it in arrays.items() if name == "rows" or name.startswith("moments.")]
    if any(len(it) != 1 + len(names) for it in rows):
        return "it has not one row for each group"
    counts = [it for name, it in arrays.items() if name == "rows" or name.endswith(".count")]
    if arrays["rows"][0] < 0 or any((it < -1).any() or (it > MAX_COUNT).any() for it in counts):
        return "it has counts that cannot be"
    squares = [it for name, it in arrays.items() if name.endswith((".m2", ".comoment"))]
    values = [it for name, it in arrays.items() if name.endswith((".mean", ".min", ".max", ".low", ".high"))]
    if any((np.abs(it) > MAX_SQUARE).any() for it in squares) or any((np.abs(it) > MAX_VALUE).any() for it in values):
        return "it has numbers that cannot be"
    if any((arrays[name] < 0).any() for name in ("moments.m2", "pairs.m2") if name in arrays):
        return "it has a negative sum of squares"
    return "it has parts that cannot be" if "parts.low" in arrays and not _are_parts(arrays, asked, names) else ""


def _are_parts(arrays: Mapping[str, Any], asked: Asked, groups: Sequence[str]) -> bool:
    low, high, column, group = (arrays[f"parts.{name}"] for name in ("low", "high", "column", "group"))
    if not len(low) == len(high) == len(column) == len(group) == len(arrays["parts.count"]):
        return False
    inside = (column >= 0) & (column < len(asked.columns)) & (group >= -1) & (group < len(groups))
    return bool((inside & (low < high) & (arrays["parts.count"] >= 0)).all())


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found: dict[str, str] = {}
    columns, ranges = given.get("columns", [""]), given.get("ranges") or {}
    if not _names(columns) or len(columns) > MAX_COLUMNS:
        found["columns"] = f"wanted a list of 1 to {MAX_COLUMNS} different names, such as [age, bmi]"
    named = given.get("statistics", DEFAULT)
    if not named or any(it not in KNOWN for it in named):
        found["statistics"] = f"wanted a list out of {', '.join(KNOWN)}"
    if not 0 < given.get("bins", 20) <= MAX_BINS:
        found["bins"] = f"wanted 1 to {MAX_BINS}"
    if not all(_is_number(it) and 0 < it < 1 for it in given.get("quantiles", [0.5])):
        found["quantiles"] = "wanted numbers between 0 and 1, such as [0.25, 0.5, 0.75]"
    groups = given.get("groups")
    if groups is not None and (not given.get("by") or not _names(groups)):
        found["groups"] = "wanted a list of different values, as text, of the column that `by` names"
    if given.get("by") and given["by"] in columns:
        found["by"] = "wanted a column that is not among `columns`"
    for name, ends in ranges.items():
        fits = isinstance(ends, list | tuple) and len(ends) == 2 and all(_is_number(end) for end in ends)
        if name not in columns or not fits or not ends[0] < ends[1]:
            found["ranges"] = (
                f"wanted two numbers for {name!r}, one of `columns`, the lower one first, such as [0, 100]"
            )
    found |= {name: "wanted 1 or more" for name in ("min_sites",) if given.get(name, 1) < 1}
    found |= {name: "wanted 0 or more" for name in ("quorum",) if given.get(name, 0) < 0}
    return found


def _names(value: Any) -> bool:
    texts = isinstance(value, list | tuple) and bool(value) and all(isinstance(it, str) and it for it in value)
    return texts and len({*value}) == len(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
