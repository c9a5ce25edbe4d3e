"""Cox's proportional hazards over tables at the sites, by Newton's method on sums over risk sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convoy.errors import JobFailed
from convoy.flows import fitting, parameters
from convoy.flows.fitting import Asking, Shapes, counted, total
from convoy.flows.fleet import Fleet
from convoy.flows.newton import Fit, Point

Array = np.ndarray[Any, Any]


async def cox(
    fleet: Fleet,
    *,
    table: str,
    time: str,
    event: str,
    until: float,
    columns: list[str] = [],  # noqa: B006 - shown in the reference, and never changed
    categories: dict[str, list[str]] = {},  # noqa: B006
    steps: int = 20,
    rounds: int = 25,
    min_sites: int = 1,
    deadline: str | float = "",
) -> None:
    """Fit Cox's regression to the rows of all sites: hazard ratios with standard errors; the job has no `trainer`.

    `time`, `event`: columns of the time of observation and of 1 for an event, 0 for a censored row. Times count as the
    end of their interval: there are `steps` equal ones from 0 to `until`, and later rows are censored there. Events of
    one interval are tied, by Breslow's method. `columns`, `categories`: as in `logistic`. The fit is the pooled one of
    the same intervals, to rounding. Where a site has too few events, or censored rows, in an interval, it counts them
    in a later one. The result is `statistics.json`, and the arrays `coefficients` float64 (p,) and `covariance`
    float64 (p, p).

    Equation: log L(beta) = sum_k s_k^T beta - sum_j d_j log sum_k S_kj(beta)
        S_kj = sum_{i at risk in j} exp(x_i^T beta); s_k: the sum of x over the events of site k; d_j: all events in j
        beta' = beta + (-d^2 log L / d beta^2)^-1 (d log L / d beta)

    Use it: for the effect of columns on a hazard, over data that cannot be pooled. Narrow intervals, with few ties, are
    the nearest to the times themselves; wide ones bias coefficients towards 0.

    Leaves the site: mean and standard deviation of each column; how many rows have an event and how many are censored
    in each interval; the sum of the columns over all events; in each round, for each interval, the sums over the rows
    at risk of exp(x^T beta), of that times x, and times x x^T. Each is over at least as many rows as the site's policy
    says. So is, in the whole table, each value of a category and of a column of two values, and each pair of these.

    Paper: Cox: Regression Models and Life-Tables, 1972. Ties: Breslow: Covariance Analysis of Censored Survival Data,
    1974. In sums of sites: Lu et al.: WebDISCO, 2015.
    """
    given: dict[str, Any] = {"columns": columns, "categories": categories, "time": time, "event": event}
    given |= {"until": float(until), "steps": steps}
    parameters.require(wrong({**given, "rounds": rounds, "min_sites": min_sites}))
    await _fit(Asking.of(table, min_sites, deadline), given).run(fleet, rounds)


def _fit(asking: Asking, given: Mapping[str, Any]) -> Fit:
    def document(at: Point) -> dict[str, Any]:
        told = {name: given[name] for name in ("time", "event", "until", "steps")}
        return told | {"log_likelihood": -at.loss}

    return Fit(
        asking,
        "cox",
        given,
        given["columns"],
        given["categories"],
        intercept=False,
        reply=lambda width: _shapes(given["steps"], width),
        point=point,
        document=document,
        ratio="hazard_ratio",
    )


def _shapes(steps: int, width: int) -> Shapes:
    counts: Shapes = dict.fromkeys(("events.count", "censored.count"), ("i8", (steps,)))
    sums: Shapes = {"risk.weight": ("f8", (steps,)), "risk.first": ("f8", (steps, width))}
    return {
        "rows": ("i8", (1,)),
        "smallest.count": ("i8", (1,)),
        "events.sum": ("f8", (width,)),
        **counts,
        **sums,
        "risk.second": ("f8", (steps, width, width)),
    }


def point(each: Sequence[Mapping[str, Array]], beta: Array) -> Point:
    """Return Breslow's partial likelihood from the sums of sites, see `convoy.worker.survival.cox`.

    Breslow, 1974, equation 7; its derivatives are those of Cox, 1972, section 5. Raises `JobFailed` where no row is at
    risk in an interval with an event, or there are no events.
    """
    died = counted([it["events.count"] for it in each])
    weight, first, second = (total([it[f"risk.{name}"] for it in each]) for name in ("weight", "first", "second"))
    at = died > 0
    if not at.any() or (weight[at] <= 0).any():
        raise JobFailed(
            "the answers of the sites give no likelihood",
            why="there is no event in any interval, or one where no row is at risk",
            fix="look at the counts with `workflow: kaplan_meier`",
        )
    events = died[at].astype(np.float64)
    mean = first[at] / weight[at, None]
    gone = total([it["events.sum"] for it in each])
    loss = float(events @ np.log(weight[at]) - gone @ beta)
    spread = second[at] / weight[at, None, None] - mean[:, :, None] * mean[:, None, :]
    hessian = np.einsum("j,jab->ab", events, spread)
    rows = int(counted([it["rows"] for it in each])[0])
    return Point(loss, events @ mean - gone, (hessian + hessian.T) / 2, rows)


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found = fitting.faults(given, least=0)
    named = [*(given.get("columns") or []), *(given.get("categories") or {})]
    if not named and not found:
        found["columns"] = "wanted a column, here or in `categories`"
    if given.get("event") == given.get("time", ""):
        found["event"] = "wanted another column than `time`"
    for name in ("time", "event"):
        if given.get(name) in named:
            found[name] = "wanted a column that is not among `columns` and `categories`"
    return found
