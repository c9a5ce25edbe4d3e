"""Kaplan-Meier curves with confidence bands and the log-rank test, over tables at the sites."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convoy.flows import fitting, parameters
from convoy.flows.document import text_of, written
from convoy.flows.fitting import Z95, Asking, Shapes, chi_square_tail, counted
from convoy.flows.fleet import Fleet

MAX_GROUPS: Final = 50  # each is a curve of the picture

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
    which any of these is missing do not count. Where a site has too few events, or censored rows, in an interval, it
    counts them in a later one: `unreleased` has the times at which it counts no event. It leaves out a group that has
    too few in all. The result is `statistics.json`, and the arrays `risk`, `events` int64 (groups, steps), `survival`,
    `low` and `high` float64 (groups, steps), at the end of each interval.

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
    parameters.require(wrong({**given, "min_sites": min_sites}))
    asking, names = Asking.of(table, min_sites, deadline), groups if by else [""]
    reply: Shapes = {
        "groups.count": ("i8", (len(names),)),
        **{f"{name}.count": ("i8", (len(names), steps)) for name in ("events", "censored")},
    }
    async for round in fleet.rounds(1):  # noqa: A001 - the field's word
        found, left_out = await asking.of_sites(fleet, "survival", {}, {**given, "groups": names}, reply)
        told = {"table": table, "sites": [*found], "left_out": dict(left_out), "time": time, "event": event, "by": by}
        ends = [until * (1 + place) / steps for place in range(steps)]
        document, arrays = _made(names, ends, found)
        metrics = {
            "sites": len(found),
            "rows": float(arrays["risk"][:, 0].sum()),
            "events": float(arrays["events"].sum()),
        }
        await round.commit(written(told | document, arrays), metrics=metrics)


def _made(
    names: Sequence[str], ends: Sequence[float], sites: Mapping[str, Mapping[str, Array]]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the document and the arrays, from those of each site."""
    events, censored = (counted([it[f"{name}.count"] for it in sites.values()]) for name in ("events", "censored"))
    risk = np.flip(np.cumsum(np.flip(events + censored, 1), axis=1), 1)
    curves = [curve(one, died) for one, died in zip(risk, events, strict=True)]
    arrays = {name: np.stack([getattr(one, name) for one in curves]) for name in ("survival", "low", "high")}
    return _document(names, ends, (risk, events), curves, sites), {"risk": risk, "events": events, **arrays}


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
    sites: Mapping[str, Mapping[str, Array]],
) -> dict[str, Any]:
    """Return curves, test, tables and picture; `counts`: at risk and events of each group."""
    found = {
        name or "all rows": _group(place, ends, (counts[0][place], counts[1][place]), curves[place], sites)
        for place, name in enumerate(names)
    }
    heads = [
        "group",
        "rows",
        "events",
        "median",
        f"survival at {ends[-1]:g}",
        "95 % band",
        "sites with wider intervals",
    ]
    rows, lines = [], []
    for label, it in found.items():
        if "suppressed" in it:
            rows.append([label, text_of(it), "", "", "", "", ""])
            continue
        last = [it[key][-1] for key in ("survival", "low", "high")]
        shown = [*map(text_of, (it["rows"], it["events"], it["median"], last[0])), f"{last[1]:.4g} to {last[2]:.4g}"]
        rows.append([label, *shown, ", ".join(it["unreleased"]) or "-"])
        band = {key: [1.0, *it[key]] for key in ("low", "high")}
        lines.append({"label": label, "x": [0.0, *ends], "y": [1.0, *it["survival"]], **band})
    tables = [{"title": "survival", "heads": heads, "rows": rows}]
    test = log_rank(*counts)
    told = None
    if test is not None:
        told = {"statistic": test.statistic, "degrees_of_freedom": test.freedom, "p": test.p, "expected": test.expected}
        title = f"log-rank test: chi-square {test.statistic:.6g}, {test.freedom} degrees of freedom, p {test.p:.4g}"
        both = zip(names, counts[1].sum(1).tolist(), test.expected, strict=True)
        compared = [[name, text_of(died), f"{expected:.6g}"] for name, died, expected in both]
        tables.append({"title": title, "heads": ["group", "events", "expected"], "rows": compared})
    axes = {"x": "time", "y": "survival", "steps": True, "lines": lines}
    pictures = [{"kind": "lines", "name": "survival", **axes}] if lines else []
    return {"groups": found, "log_rank": told, "tables": tables, "pictures": pictures}


def _group(
    place: int,
    ends: Sequence[float],
    counts: tuple[Array, Array],
    of: Curve,
    sites: Mapping[str, Mapping[str, Array]],
) -> dict[str, Any]:
    """Return what is told of one group; `unreleased`: by site, the times at which it counts no event."""
    risk, events = counts
    if not risk[0]:
        return {"suppressed": "too few rows, events or censored rows at each site"}
    down = np.flatnonzero(of.survival <= 0.5)
    away = [site for site, it in sites.items() if it["groups.count"][place] < 0]
    none = {site: np.flatnonzero(it["events.count"][place] < 0) for site, it in sites.items() if site not in away}
    return {
        "rows": int(risk[0]),
        "events": int(events.sum()),
        "median": ends[down[0]] if down.size else None,
        **({"suppressed_at": away} if away else {}),
        "unreleased": {site: [ends[at] for at in it.tolist()] for site, it in none.items() if it.size},
        "times": list(ends),
        "at_risk": risk.tolist(),
        "died": events.tolist(),
        **{key: getattr(of, key).tolist() for key in ("survival", "low", "high")},
    }


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found = fitting.faults(given, least=0)
    by, groups = given.get("by", ""), given.get("groups") or []
    if by and "categories" in fitting.faults({"categories": {by: groups}}, least=0):
        found["groups"] = f"wanted all values of {by!r}, two or more, as text"
    if len(groups) > MAX_GROUPS:
        found["groups"] = f"wanted at most {MAX_GROUPS}"
    if groups and not by:
        found["by"] = "wanted the column whose values are `groups`"
    if given.get("event") == given.get("time", ""):
        found["event"] = "wanted another column than `time`"
    if by and by in (given.get("time"), given.get("event")):
        found["by"] = "wanted another column than `time` and `event`"
    if not math.isfinite(given.get("until", 1.0)):
        found["until"] = "wanted a finite time"
    return found
