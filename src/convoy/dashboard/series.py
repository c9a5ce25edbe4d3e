"""Curves as numbers for charts: of rounds, and of live metrics by site with their mean; pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from convoy.admin.views import PointView
from convoy.dashboard.histories import History

MAX_PLACES: Final = 1000  # values of one curve; of longer ones, values that are close together become their mean
MAX_CURVES: Final = 12  # sites in one chart; the mean is that of all
MEAN: Final = "mean of the sites"
SERVER: Final = "server"  # whose live metrics are those of the workflow
WHOLE: Final = ("Round", "Step")  # axes of whole numbers
OVERS: Final = {"step": "Step", "time": "Time", "round": "Round"}  # what the x axis may be

Curve = Mapping[float, float]  # values by their place on the x axis


def chart(label: str, curves: Mapping[str, Curve], *, times: bool = False) -> dict[str, Any]:
    """Return curves in the form that `charts.js` reads."""
    curves = thinned(curves)
    places = sorted({place for curve in curves.values() for place in curve})
    listed = [
        {"label": name, "values": [finite(curve[place]) if place in curve else None for place in places]}
        for name, curve in curves.items()
    ]
    kind = "time" if times else "number"
    return {"x": {"label": label, "kind": kind, "whole": label in WHOLE, "values": places}, "series": listed}


def of_rounds(histories: Mapping[str, History], key: str) -> dict[str, Any]:
    """Return the chart of one metric by round, with a curve for each history, by its label."""
    curves = {
        label: {float(number): told[key] for number, told in zip(it.rounds, it.metrics, strict=True) if key in told}
        for label, it in histories.items()
    }
    return chart("Round", curves)


def over(points: Sequence[PointView]) -> str:
    """Return what the x axis of live metrics best is: the step, where no site's steps begin again, else the time."""
    last: dict[str, int] = {}
    for point in points:
        if point.step is None or point.step < last.get(point.site, 0):
            return "time"
        last[point.site] = point.step
    return "step"


def of_points(points: Iterable[PointView], key: str, along: str) -> dict[str, Any]:
    """Return the chart of one live metric: a curve for each of the first sites, and the mean of all.

    Values of a site at the same place become their mean.
    """
    found: defaultdict[str, defaultdict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if key in point.values:
            place = {"time": point.at, "round": float(point.round)}.get(along)
            if place is None:
                place = float(point.number if point.step is None else point.step)
            found[point.site][place].append(point.values[key])
    curves = {site: _means(found[site]) for site in sorted(found, key=lambda site: (site == SERVER, site))}
    sites = thinned({site: curve for site, curve in curves.items() if site != SERVER})
    shown = dict(list(curves.items())[:MAX_CURVES])
    together: defaultdict[float, list[float]] = defaultdict(list)
    for curve in sites.values():
        for place, value in curve.items():
            together[place].append(value)
    mean = {MEAN: _means(together)} if len(sites) > 1 else {}
    made = chart(OVERS.get(along, OVERS["step"]), mean | shown, times=along == "time")
    return made | {"sites": len(curves)}


def thinned(curves: Mapping[str, Curve]) -> Mapping[str, Curve]:
    """Return curves of at most `MAX_PLACES` places in all, evenly spaced where there were more."""
    places = {place for curve in curves.values() for place in curve}
    if len(places) <= MAX_PLACES:
        return curves
    low, width = min(places), (max(places) - min(places)) / (MAX_PLACES - 1) or 1.0
    made: dict[str, Curve] = {}
    for name, curve in curves.items():
        gathered: defaultdict[float, list[float]] = defaultdict(list)
        for place, value in curve.items():
            gathered[low + round((place - low) / width) * width].append(value)
        made[name] = _means(gathered)
    return made


def _means(gathered: Mapping[float, Sequence[float]]) -> Curve:
    return {place: sum(value / len(values) for value in values) for place, values in gathered.items()}


def finite(value: float) -> float | None:
    """Return a number as JSON can say it: None for what is none."""
    return value if math.isfinite(value) else None
