"""`convoy simulate`: a job at many sites on this machine, with results as a federation leaves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convoy.cli.asking import as_json
from convoy.errors import BadInput, JobFailed

if TYPE_CHECKING:
    from convoy.cli.output import Screen
    from convoy.control.records import Round
    from convoy.control.view import ReadOnlyJob
    from convoy.sim.plan import Plan
    from convoy.sim.run import Simulated

SITES = "The number of sites (default: what simulate.yaml says, or one for each file of data)"
DATA = "Data of the sites: a file that all of them have, or a folder with one entry for each site"
RESULTS = "A new folder for results (default: NAME-simulated)"
WORKERS = "Processes that do the sites' tasks (default: one for each core; 0: this process)"


@click.command("simulate")
@click.argument("folder", metavar="JOB", type=click.Path(path_type=Path))
@click.option("--sites", type=click.IntRange(1, 100_000), help=SITES)
@click.option("--data", multiple=True, metavar="NAME=PATH", help=DATA)
@click.option("--workers", type=click.IntRange(0, 1024), help=WORKERS)
@click.option("-o", "results", type=click.Path(path_type=Path), help=RESULTS)
@as_json
def app(
    *,
    folder: Path,
    sites: int | None,
    data: tuple[str, ...],
    workers: int | None,
    results: Path | None,
    json: bool,
) -> None:
    """Run the folder of a job at many sites on this machine, without a federation.

    The rules and the results are those of a federation, and so is the final model of a federation of the same sites.
    """
    from convoy.cli.output import Screen
    from convoy.sim.plan import read_plan
    from convoy.sim.run import simulate

    screen = Screen(json=json)
    plan = read_plan(folder, sites=sites, data=dict(map(_named, data)))
    where = results or Path(f"{plan.job.name}-simulated")
    _say(screen, plan, simulate(plan, where, workers=workers, told=_teller(screen)))


def _named(one: str) -> tuple[str, Path]:
    name, _, path = one.partition("=")
    if not name or not path:
        raise BadInput(f"--data {one} names no path", fix="write --data NAME=PATH")
    return name, Path(path)


def _say(screen: Screen, plan: Plan, done: Simulated) -> None:
    """Say how a simulation went. Raises `JobFailed` unless it completed."""
    from convoy.cli import output

    record, where = done.job, done.folder
    screen.data({"state": record.state, "cause": record.cause, "rounds": len(done.rounds) - 1, "folder": str(where)})
    for file in sorted(one for one in where.iterdir() if one.is_file()):
        screen.line(f"{output.size(file.stat().st_size):>9}  {file}")
    if record.state == "completed":
        screen.line(f"{record.name} completed at {len(plan.sites)} sites")
        return
    if record.traceback:
        screen.block(record.traceback)
    raise JobFailed(f"job {record.name} {record.state}", why=record.cause, fix=f"see more in {where / 'logs'}")


def _teller(screen: Screen) -> Callable[[ReadOnlyJob, Round], None]:
    """Return what prints each round as it is committed."""
    from convoy.cli.progress import round_line
    from convoy.server.views import round_view

    def told(job: ReadOnlyJob, made: Round) -> None:
        if made.round:
            screen.data(round_view(made))
            screen.line(round_line(round_view(made), job.record.rounds))

    return told
