"""`convoy job metrics`: live metrics as a table, as CSV, as lines of JSON, or as a picture of their curves."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from convoy.cli import output
from convoy.errors import BadInput, NotFound

if TYPE_CHECKING:
    from convoy.admin.client import Client
    from convoy.admin.views import PointView
    from convoy.cli.output import Screen

HEADS: Final = ("site", "number", "time", "round", "phase", "step", "key", "value")


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose live metrics, and which of them; `follow`: until the job has ended."""

    job: str
    site: str = ""
    key: str = ""
    follow: bool = False


@dataclass(slots=True)
class Curve:
    """The values of one key in one phase at one site, and where each stands: its step, or else its number."""

    places: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


Curves = Mapping[tuple[str, str], Curve]  # by key (with the phase before it) and site


async def show(client: Client, screen: Screen, asked: Asked, *, as_csv: bool = False, plot: Path | None = None) -> None:
    """Show live metrics in one of their forms. Raises `NotFound` where there are none, `BadInput` for two forms."""
    if sum((as_csv, screen.json, plot is not None)) > 1:
        raise BadInput("give one of --csv, --json and --plot", fix="run the command once for each")
    job, each = await client.find(asked.job), as_csv or screen.json or (asked.follow and plot is None)
    curves: defaultdict[tuple[str, str], Curve] = defaultdict(Curve)
    last: dict[str, tuple[int, int]] = {}  # of each site: the number of its last point, and how many came
    if as_csv:
        screen.line(row(HEADS))
    found = client.points(job, site=asked.site or None, key=asked.key, follow=asked.follow)
    async with aclosing(found):
        async for point in found:
            last[point.site] = point.number, last.get(point.site, (0, 0))[1] + 1
            if each:
                _tell(screen, point, as_csv=as_csv)
            else:
                _gather(curves, point)
    if each:
        return
    if not curves:
        fix = "a job reports them with convoy.metrics({...}); a site's policy may hold them back (see the job's log)"
        raise NotFound("there are no live metrics", why=f"job {job[:8]} has none that match", fix=fix)
    if plot is not None:
        draw(curves, plot)
        screen.line(f"{len(curves)} curves are in {plot}")
        return
    screen.table(("key", "site", "last", "min", "max", "mean", "count"), [_row(*it) for it in sorted(curves.items())])
    if not asked.key and any(number + 1 > count for number, count in last.values()):
        kept, made = sum(count for _, count in last.values()), sum(number + 1 for number, _ in last.values())
        screen.line(f"{kept} of {made} points are kept; the others were thinned out evenly")


def row(cells: Sequence[object]) -> str:
    """Return a line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _tell(screen: Screen, point: PointView, *, as_csv: bool) -> None:
    screen.data(point)
    if as_csv:
        for key, value in point.values.items():
            step = "" if point.step is None else point.step
            told = (point.site, point.number, f"{point.at:.3f}", point.round, point.phase, step, key, repr(value))
            screen.line(row(told))
        return
    step = "" if point.step is None else f" step {point.step}"
    phase = f" {point.phase}" if point.phase else ""
    screen.line(f"{point.site} | round {point.round}{phase}{step}: {output.metrics(point.values)}")


def _gather(curves: defaultdict[tuple[str, str], Curve], point: PointView) -> None:
    for key, value in point.values.items():
        curve = curves[f"{point.phase} {key}".strip(), point.site]
        curve.places.append(point.number if point.step is None else point.step)
        curve.values.append(value)


def _row(name: tuple[str, str], curve: Curve) -> tuple[object, ...]:
    values = curve.values
    mean = math.fsum(value / len(values) for value in values)
    return *name, *(f"{value:.4g}" for value in (values[-1], min(values), max(values), mean)), len(values)


def draw(curves: Curves, path: Path) -> None:
    """Draw a panel for each key, with a line for each site. Raises `BadInput` where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise BadInput("the curves are not drawn", why=str(problem), fix="pip install 'convoy-fl[demo]'") from problem
    keys = sorted({key for key, _ in curves})
    figure = Figure(figsize=(8, 3.2 * len(keys)), layout="constrained")
    for axes, key in zip(figure.subplots(len(keys), squeeze=False)[:, 0], keys, strict=True):
        sites = sorted(site for found, site in curves if found == key)
        for site in sites:
            curve = curves[key, site]
            axes.plot(curve.places, curve.values, label=site, linewidth=1, marker="." if len(curve.values) < 3 else "")
        axes.set(xlabel="step", ylabel=key.replace("$", r"\$"))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", ncols=1 + len(sites) // 9)
    figure.savefig(path, format="png", dpi=120)
