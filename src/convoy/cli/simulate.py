"""`convoy simulate`: a job at many sites on this machine, with results as a federation leaves them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convoy.cli.connecting import as_json
from convoy.errors import BadInput, JobFailed

if TYPE_CHECKING:
    from convoy.cli.output import Screen
    from convoy.control.records import Round
    from convoy.control.view import ReadOnlyJob
    from convoy.sim.grid import Point
    from convoy.sim.simulated import Simulated
    from convoy.sim.workers import WorkerChoice

SITES = "The number of sites, or their names (default: what simulate.yaml says, or one for each file of data)"
DATA = "Data of the sites: a file that all of them have, or a folder with one entry for each site"
RESULTS = "A new folder for results (default: NAME-simulated)"
WORKERS = "Processes that do the sites' tasks (default: one for each core or GPU share; 0: this process)"
ENGINE = (
    "Who does the sites' tasks: isolated processes of this machine, or actors of a Ray cluster, which are not isolated "
    "from their machines; the cluster is that of RAY_ADDRESS or of this machine, or is started here and stopped again"
)
GPUS = "The share of a GPU that each site's task has, such as 0.25: four tasks at the same time share one GPU"


SET = "A setting of job.yaml; with several values each of them is simulated"
SEEDS = "Simulate so many seeds, beginning with the job's own"


@click.command("simulate")
@click.argument("folder", metavar="JOB", type=click.Path(path_type=Path))
@click.option("--sites", metavar="COUNT | NAME,…", help=SITES)
@click.option("--data", multiple=True, metavar="NAME=PATH", help=DATA)
@click.option("--set", "settings", multiple=True, metavar="PLACE=VALUE,…", help=SET)
@click.option("--seeds", type=click.IntRange(1, 10_000), help=SEEDS)
@click.option("--workers", type=click.IntRange(0, 1024), help=WORKERS)
@click.option("--engine", type=click.Choice(["processes", "ray"]), default="processes", show_default=True, help=ENGINE)
@click.option("--gpus-per-site", type=float, metavar="FRACTION", help=GPUS)
@click.option("-o", "results", type=click.Path(path_type=Path), help=RESULTS)
@as_json
def app(
    *,
    folder: Path,
    sites: str | None,
    data: tuple[str, ...],
    settings: tuple[str, ...],
    seeds: int | None,
    workers: int | None,
    engine: str,
    gpus_per_site: float | None,
    results: Path | None,
    json: bool,
) -> None:
    """Run the folder of a job at many sites on this machine, without a federation.

    The rules and the results are those of a federation, and so is the final model of a federation of the same sites.

    With --seeds, or with --set and several values, it is a sweep: every combination is simulated into a folder of its
    own, and a table, a file of curves and `sweep.jsonl` compare them. A sweep that is started again goes on.
    """
    from convoy.cli.output import Screen
    from convoy.sim.workers import ahead, gathered

    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # it writes what it has, and tidies up
    screen = Screen(json=json)
    with ExitStack() as stack:
        forks = stack.enter_context(ahead(workers, engine))
        from convoy.sim.grid import added, points  # with numpy and pydantic, while that process loads them too
        from convoy.sim.plan import read_plan
        from convoy.sim.run import run

        plan = read_plan(folder, sites=_sites(sites), data=dict(map(_named, data)))
        grid = points(plan, settings, seeds or 1)
        for sentence in added(plan, grid):
            screen.line(f"warning: {sentence}")
        choice = stack.enter_context(
            gathered(workers, engine=engine, gpus_per_site=gpus_per_site, say=screen.line, forks=forks)
        )
        if seeds is not None or len(grid) > 1:
            _sweep(screen, grid, results or Path(f"{plan.job.name}-sweep"), choice)
            return
        where = results or Path(f"{plan.job.name}-simulated")
        done = run(grid[0].plan, where, workers=choice, told=_teller(screen))
    _say(screen, done)


def _sweep(screen: Screen, grid: Sequence[Point], where: Path, workers: WorkerChoice) -> None:
    """Run a sweep and compare its simulations. Raises `JobFailed` if one of them did not complete."""
    from convoy.sim.sweep import CURVES, draw, sweep, table

    def begins(point: Point, number: int) -> None:
        screen.line(f"{number}/{len(grid)}  {point.name}")

    ran = sweep(grid, where, workers=workers, begins=begins)
    for one in ran:
        told = {"settings": dict(one.settings), "seed": one.seed, "state": one.state, "cause": one.cause}
        screen.data({**told, "metrics": dict(one.last), "folder": str(one.folder)})
    screen.line()
    screen.table(*table(ran))
    screen.line()
    try:
        draw(ran, where / CURVES)
        screen.line(f"the curves: {where / CURVES}")
    except BadInput as problem:
        screen.line(": ".join(filter(None, (problem.what, problem.why, problem.fix))))
    if bad := [one for one in ran if one.state != "completed"]:
        fix = f"see {bad[0].folder / 'logs'}; a simulation whose folder is removed is run again"
        raise JobFailed(f"{len(bad)} of {len(ran)} simulations did not complete", why=bad[0].cause, fix=fix)


def _sites(said: str | None) -> int | list[str] | None:
    if said is None or not said.isdecimal():
        return None if said is None else [one.strip() for one in said.split(",")]
    return int(said)


def _named(one: str) -> tuple[str, Path]:
    name, _, path = one.partition("=")
    if not name or not path:
        raise BadInput(f"--data {one} names no path", fix="write --data NAME=PATH")
    return name, Path(path)


def _say(screen: Screen, done: Simulated) -> None:
    """Say how a simulation went. Raises `JobFailed` unless it completed."""
    from convoy.admin import findings
    from convoy.cli import heatmaps, output, statistics

    record, where, last = done.job, done.folder, done.summary.last
    moved = {"virtual_s": last.virtual_s, "bytes_down": last.bytes_down, "bytes_up": last.bytes_up}
    told = {"state": record.state, "cause": record.cause, "rounds": max(len(done.rounds) - 1, 0), "folder": str(where)}
    screen.data(told | moved)
    metrics = done.rounds[-1].metrics if done.rounds else {}
    heatmaps.say(screen, metrics)
    heatmaps.draw(screen, where, metrics)
    if (where / findings.FILE).exists():
        statistics.say(screen, (where / findings.FILE).read_bytes())
        statistics.draw(screen, where)
        screen.line()
    for file in sorted(one for one in where.iterdir() if one.is_file()):
        screen.line(f"{output.size(file.stat().st_size):>9}  {file}")
    if record.state == "completed":
        took = f" in {output.span(last.virtual_s)} of virtual time" if last.virtual_s else ""
        traffic = f"{output.size(last.bytes_down)} went to them, {output.size(last.bytes_up)} came back"
        screen.line(f"{record.name} completed at {len(done.sites)} site{'s' * (len(done.sites) > 1)}{took}; {traffic}")
        return
    if record.traceback:
        screen.block(record.traceback)
    raise JobFailed(f"job {record.name} {record.state}", why=record.cause, fix=f"see more in {where / 'logs'}")


def _teller(screen: Screen) -> Callable[[ReadOnlyJob, Round], None]:
    """Return what prints each round as it is committed."""
    from convoy.sim.reporting import line, told_of

    def told(job: ReadOnlyJob, made: Round) -> None:
        if made.round:
            seen = told_of(job, made)
            screen.data(seen)
            screen.line(line(seen))

    return told
