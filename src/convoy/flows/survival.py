"""Kaplan-Meier curves with confidence bands and the log-rank test, over tables at the sites."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convoy.errors import BadInput
from convoy.flows import fitting
from convoy.flows.document import text_of
from convoy.flows.fitting import Z95, Asking, Shapes, chi_square_tail, counted, written
from convoy.flows.fleet import Fleet

Array = np.ndarray[Any, Any]


async def kaplan_meier(
    fleet: Fleet,
    *,
    table: str,
    time: str,
    event: str,
    until: float,
    steps: int = 20,
    by: str = "",
    groups: list[str] = [],  # noqa: B006 - shown in the reference, and never changed
    min_sites: int = 1,
    deadline: str | float = "",
) -> None:
    """Estimate survival curves with 95 % bands in one round, and compare groups by the log-rank test; no `trainer`.

    `time`, `event`: columns of the time of observation and of 1 for an event, 0 for a censored row. Times count as the
    end of their interval: there are `steps` equal ones from 0 to `until`, and later rows are censored there. Events of
    an interval come before its censored rows. `by`: a column of text with the groups; `groups`: all its values. Rows in
    which any of these is missing do not count. A site in which an interval has too few rows counts them in a later one,
    and leaves out groups with too few. The result is `statistics.json`, and the arrays `risk`, `events` int64
    (groups, steps), `survival`, `low` and `high` float64 (groups, steps), at the end of each interval.

    Equation: S(t) = prod_{j: t_j <= t} (1 - d_j / n_j);  var log S(t) = sum_{j: t_j <= t} d_j / (n_j (n_j - d_j))
        band: S(t)^exp(+-1.96 sqrt(var log S(t)) / log S(t)), which stays between 0 and 1
        log-rank: (O - E)^T V^-1 (O - E), with E_gj = d_j n_gj / n_j;  chi-square with groups - 1 degrees of freedom

    Use it: for the time until an event, over data that cannot be pooled; before `cox`.

    Leaves the site: for each group and interval, how many rows have an event and how many are censored, each none or at
    least as many as the site's policy says; no time of a row.

    Paper: Kaplan, Meier: Nonparametric Estimation from Incomplete Observations, 1958. Band: Kalbfleisch, Prentice: The
    Statistical Analysis of Failure Time Data, 1980, section 1.3. Test: Mantel, 1966; Peto, Peto, 1972.
    """
    given = {"time": time, "event": event, "by": by, "groups": groups, "until": float(until), "steps": steps}
    if problems := wrong({**given, "min_sites": min_sites}):
        raise BadInput("; ".join(f"{name}: {problem}" for name, problem in problems.items()))
    asking, names = Asking.of(table, min_sites, deadline), groups if by else [""]
    reply: Shapes = {
        "groups.count": ("i8", (len(names),)),
        **{f"{name}.count": ("i8", (len(names), steps)) for name in ("events", "censored")},
    }
    async for round in fleet.rounds(1):  # noqa: A001 - the field's word
        found, left_out = await asking.of_sites(fleet, "survival", {}, {**given, "groups": names}, reply)
        each = list(found.values())
        events, censored = (counted([it[f"{name}.count"] for it in each]) for name in ("events", "censored"))
        risk = np.flip(np.cumsum(np.flip(events + censored, 1), axis=1), 1)
        curves = [curve(one, died) for one, died in zip(risk, events, strict=True)]
        away = [[site for site, it in found.items() if it["groups.count"][place] < 0] for place in range(len(names))]
        told = {"table": table, "sites": [*found], "left_out": dict(left_out), "time": time, "event": event, "by": by}
        ends = [until * (1 + place) / steps for place in range(steps)]
        told |= _document(names, ends, (risk, events), curves, away)
        arrays = {name: np.stack([getattr(one, name) for one in curves]) for name in ("survival", "low", "high")}
        metrics = {"sites": len(found), "rows": float(risk[:, 0].sum()), "events": float(events.sum())}
        await round.commit(written(told, {"risk": risk, "events": events, **arrays}), metrics=metrics)


@dataclass(frozen=True, slots=True)
class Curve:
    """How many survive the end of each interval, with the limits of 95 %; float64 (steps,)."""

    survival: Array
    low: Array
    high: Array


def curve(risk: Array, events: Array) -> Curve:
    """Return the product-limit estimate (Kaplan, Meier, 1958) from rows at risk and events, int64 (steps,).

    The band is Greenwood's variance on the scale of log(-log S). Before the first event and after the last row has died
    it has no width.
    """
    at, died = np.maximum(risk, 1).astype(np.float64), events.astype(np.float64)
    survival = np.cumprod(1.0 - died / at)
    left = at - died
    variance = np.cumsum(np.where(left > 0, died / (at * np.maximum(left, 1.0)), 0.0))
    inside = (survival > 0) & (survival < 1)
    log = np.log(np.where(inside, survival, 0.5))
    width = np.where(inside, Z95 * np.sqrt(variance) / -log, 0.0)
    safe = np.where(inside, survival, 0.5)
    low, high = safe ** np.exp(width), safe ** np.exp(-width)
    return Curve(survival, np.where(inside, low, survival), np.where(inside, high, survival))


@dataclass(frozen=True, slots=True)
class LogRank:
    """The test of equal hazards: `expected` events by group, the statistic, its degrees of freedom and p-value."""

    expected: list[float]
    statistic: float
    freedom: int
    p: float


def log_rank(risk: Array, events: Array) -> LogRank | None:
    """Return the log-rank test of groups, int64 (groups, steps) (Mantel, 1966); None where nothing can be compared."""
    used = risk[:, 0] > 0
    n, d = risk[used].astype(np.float64), events[used].astype(np.float64)
    every, died = n.sum(0), d.sum(0)
    at = (died > 0) & (every > 1)
    if used.sum() < 2 or not at.any():
        return None
    share = n[:, at] / every[at]
    expected = share @ died[at]
    factor = died[at] * (every[at] - died[at]) / (every[at] - 1.0)
    spread = np.diag(share @ factor) - (share * factor) @ share.T
    apart = (d[:, at].sum(1) - expected)[:-1]
    values, vectors = np.linalg.eigh(spread[:-1, :-1])
    if values[0] <= 1e-12 * max(values[-1], 1.0):
        return None
    statistic = float(((vectors.T @ apart) ** 2 / values).sum())
    freedom = int(used.sum()) - 1
    whole = np.zeros(len(risk))
    whole[used] = expected
    return LogRank(whole.tolist(), statistic, freedom, chi_square_tail(statistic, freedom))


def _document(
    names: Sequence[str],
    ends: Sequence[float],
    counts: tuple[Array, Array],
    curves: Sequence[Curve],
    away: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """Return curves, test, tables and the picture; a group that no site releases is suppressed. `counts`: at risk, events."""
    risk, events = counts
    found: dict[str, Any] = {}
    rows, lines = [], []
    for place, name in enumerate(names):
        label, it = name or "all rows", curves[place]
        if not risk[place, 0]:
            found[label] = {"suppressed": "too few rows, events or censored rows at each site"}
            rows.append([label, text_of(found[label]), "", "", ""])
            continue
        down = np.flatnonzero(it.survival <= 0.5)
        median = ends[down[0]] if down.size else None
        found[label] = {
            "rows": int(risk[place, 0]),
            "events": int(events[place].sum()),
            "median": median,
            **({"suppressed_at": list(away[place])} if away[place] else {}),
            "times": list(ends),
            "at_risk": risk[place].tolist(),
            "died": events[place].tolist(),
            **{key: getattr(it, key).tolist() for key in ("survival", "low", "high")},
        }
        rows.append([label, *map(text_of, (found[label]["rows"], found[label]["events"], median))])
        last = f"{it.survival[-1]:.4g} ({it.low[-1]:.4g} to {it.high[-1]:.4g})"
        rows[-1].append(last)
        whole = {key: [1.0, *getattr(it, key).tolist()] for key in ("low", "high")}
        lines.append({"label": label, "x": [0.0, *ends], "y": [1.0, *it.survival.tolist()], **whole})
    heads = ["group", "rows", "events", "median", f"survival at {ends[-1]:g} (95 % band)"]
    tables = [{"title": "survival", "heads": heads, "rows": rows}]
    test = log_rank(risk, events)
    if test is not None:
        found_test = {"statistic": test.statistic, "degrees_of_freedom": test.freedom, "p": test.p}
        compared = [[name, text_of(int(died.sum())), f"{expected:.6g}"]
                    for name, died, expected in zip(names, events, test.expected, strict=True)]  # fmt: skip
        title = f"log-rank test: chi-square {test.statistic:.6g}, {test.freedom} degrees of freedom, p {test.p:.4g}"
        tables.append({"title": title, "heads": ["group", "events", "expected"], "rows": compared})
    else:
        found_test = None
    axes = {"x": "time", "y": "survival", "steps": True, "lines": lines}
    pictures = [{"kind": "lines", "name": "survival", **axes}] if lines else []
    return {"groups": found, "log_rank": found_test, "tables": tables, "pictures": pictures}


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found = fitting.faults(given, least=0)
    by, groups = given.get("by", ""), given.get("groups") or []
    if by and "categories" in fitting.faults({"categories": {by: groups}}, least=0):
        found["groups"] = f"wanted all values of {by!r}, two or more, as text"
    if groups and not by:
        found["by"] = "wanted the column whose values are `groups`"
    if given.get("event") == given.get("time", ""):
        found["event"] = "wanted another column than `time`"
    if by and by in (given.get("time"), given.get("event")):
        found["by"] = "wanted another column than `time` and `event`"
    if not math.isfinite(given.get("until", 1.0)):
        found["until"] = "wanted a finite time"
    return found
