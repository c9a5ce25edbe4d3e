"""A sweep: simulations over a grid of settings and seeds, with a table of means and spreads, and curves.

What is done stays: a sweep that is started again in its folder goes on with what is missing.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from convoy.errors import BadInput
from convoy.sim.grid import Point
from convoy.sim.run import Told, run
from convoy.sim.workers import Workers
from convoy.spec.printable import one_line
from convoy.store import report

POINT: Final = "point.json"  # in the folder of each simulation: what it is of
RUNS: Final = "sweep.jsonl"  # a line for each simulation
OURS: Final = re.compile(  # what a simulation writes
    r"artifacts|logs|(job|rounds|simulation|point)\.json|metrics\.jsonl|(model|best)\.safetensors|partition-.*\.csv"
)
SHOWN: Final = 80  # characters of a cause
CURVES: Final = "curves.png"


@dataclass(frozen=True, slots=True)
class Ran:
    """One simulation of a sweep that has ended: its metrics by round, from round 1."""

    settings: Mapping[str, Any]
    seed: str
    state: str
    cause: str
    metrics: Sequence[Mapping[str, float]]
    folder: Path

    @property
    def last(self) -> Mapping[str, float]:
        """The metrics of the last round."""
        return self.metrics[-1] if self.metrics else {}


def sweep(
    points: Sequence[Point],
    folder: Path,
    *,
    workers: Workers = None,
    told: Told = lambda _, __: None,
    begins: Callable[[Point, int], None] = lambda _, __: None,
) -> list[Ran]:
    """Run every simulation that the folder does not have yet; return all, in their order.

    `begins` hears of each that is run, with its number from 1. Raises `BadInput` for a folder of another sweep, and
    `KeyboardInterrupt`, after which the next sweep into this folder goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {point.name: _done(point, folder / point.name) for point in points}  # before anything has changed
    for number, point in enumerate(points, 1):
        if done[point.name] is not None:
            continue
        place = folder / point.name
        shutil.rmtree(place, ignore_errors=True)
        begins(point, number)
        found = run(point.plan, place, workers=workers, told=told)
        if found.interrupted:
            raise KeyboardInterrupt
        (place / POINT).write_text(json.dumps(point.identity(), indent=1))
        done[point.name] = _read(point, place)
    ran = [one for one in done.values() if one is not None]
    rows = ({**dict(it.settings), "seed": it.seed, "state": it.state, "cause": it.cause, **it.last} for it in ran)
    (folder / RUNS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ran


def _done(point: Point, place: Path) -> Ran | None:
    """Return a simulation that is there already; None if it is not, or was stopped half way."""
    if not place.exists():
        return None
    strange = sorted(one.name for one in place.iterdir() if not OURS.fullmatch(one.name))
    if strange:
        what = f"{place} is not a simulation, or more than that: it has {strange[0]}"
        raise BadInput(what, fix="name another folder for the results")
    try:
        known = json.loads((place / POINT).read_text())
    except (FileNotFoundError, ValueError):  # it was stopped half way
        return None
    if known != point.identity():
        raise BadInput(
            f"{place} has a simulation of another job, of other data or of other sites",
            fix="name a new folder for the results, or remove this one",
        )
    return _read(point, place)


def _read(point: Point, place: Path) -> Ran:
    job = json.loads((place / report.JOB).read_text())
    lines = (place / report.ROUNDS[1]).read_text().splitlines()
    metrics = [
        {name: value for name, value in json.loads(line).items() if name != "round"} for line in lines[1:]
    ]  # round 0 is the first model
    return Ran(point.settings, point.seed, job["state"], job["cause"], metrics, place)


# ---- what it came to -----------------------------------------------------------------------------------------------
def groups(ran: Iterable[Ran]) -> list[tuple[Mapping[str, Any], list[Ran]]]:
    """Return the simulations by their settings, the seeds of each together."""
    found: dict[str, tuple[Mapping[str, Any], list[Ran]]] = {}
    for one in ran:
        found.setdefault(json.dumps(dict(one.settings)), (one.settings, []))[1].append(one)
    return list(found.values())


def table(ran: Sequence[Ran]) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows: the settings, then each metric of the last round as mean ± standard deviation."""
    settings = list(ran[0].settings)
    names = sorted({name for one in ran for name in one.last})
    rows = []
    for values, runs in groups(ran):
        good = [one for one in runs if one.state == "completed"]
        cells = [_spread([one.last[name] for one in good if name in one.last]) for name in names]
        bad = sorted({f"{one.state}: {one_line(one.cause)[:SHOWN]}" for one in runs if one.state != "completed"})
        rows.append([*(str(values[key]) for key in settings), f"{len(good)}/{len(runs)}", *cells, *["; ".join(bad)]])
    heads = [*settings, "completed", *names, ""]
    return (heads, rows) if any(row[-1] for row in rows) else (heads[:-1], [row[:-1] for row in rows])


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2g}"


def draw(ran: Sequence[Ran], path: Path) -> None:
    """Draw each metric over the rounds: a line for the mean of each setting, a band from its least to its largest.

    Raises `BadInput` where matplotlib is missing, or there is nothing to draw.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise BadInput("the curves are not drawn", why=str(problem), fix="pip install 'convoy-fl[demo]'") from problem
    names = sorted({name for one in ran for made in one.metrics for name in made})
    if not names:
        raise BadInput("there are no curves", why="no round has a metric")
    figure = Figure(figsize=(7, 3.4 * len(names)), layout="constrained")
    for axes, name in zip(figure.subplots(len(names), squeeze=False)[:, 0], names, strict=True):
        for settings, runs in groups(ran):
            columns = [[made.get(name, math.nan) for made in one.metrics] for one in runs if one.metrics]
            longest = max(map(len, columns), default=0)
            by_round = [
                [one[at] for one in columns if at < len(one) and math.isfinite(one[at])] for at in range(longest)
            ]
            places = [at + 1 for at, values in enumerate(by_round) if values]
            kept = [values for values in by_round if values]
            label = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items()) or "all seeds"
            (drawn,) = axes.plot(places, [statistics.fmean(values) for values in kept], label=label)
            if len(runs) > 1:
                low, high = [min(values) for values in kept], [max(values) for values in kept]
                axes.fill_between(places, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
        axes.set(xlabel="round", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", ncols=1 + len(groups(ran)) // 9)
    figure.savefig(path, dpi=120)
