"""`convoy.simulate`: a job at many sites from Python or a notebook, with its progress shown there.

done = convoy.simulate("tumours", sites=100)
done.history[-1]["metrics"], done.model["w"], done.log("site-007")
"""

from __future__ import annotations

import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from shutil import rmtree
from typing import Any

from convoy.control.records import Round
from convoy.control.view import ReadOnlyJob
from convoy.errors import BadInput, JobFailed
from convoy.partition import Parts
from convoy.sim.plan import read_plan
from convoy.sim.reporting import line, told_of
from convoy.sim.run import Told, run
from convoy.sim.simulated import Simulated
from convoy.sim.workers import ahead, gathered

Progress = Callable[[Mapping[str, Any]], None]


def simulate(
    job: str | Path,
    *,
    sites: int | Sequence[str] | None = None,
    data: Mapping[str, str | Path | Parts] | None = None,
    workers: int | None = None,
    engine: str = "processes",
    gpus_per_site: float | None = None,
    results: str | Path | None = None,
    progress: bool | Progress = True,
) -> Simulated:
    """Run the folder of a job at many sites on this machine, without a federation; return what it left.

    `sites` (how many, or their names) and `data` (for each name a path or `Parts`) come before what the job's
    simulate.yaml says. `workers`: how many do the sites' tasks; 0: this process does, without isolation; None: one for
    each core. `engine`: "processes" of this machine, or "ray". `gpus_per_site`: the share of a GPU of each worker.
    `results`: a new folder; None: a temporary one, which is removed with the returned value. `progress`: whether rounds
    are shown, or a function that hears of each: `round`, `rounds`, `metrics`, `best`, `took_part`, `left_out`. An
    interrupt ends every process, writes what was committed, and is raised again. Raises `BadInput`, and `JobFailed` for
    a job that did not complete.
    """
    given = {name: Path(one) if isinstance(one, str) else one for name, one in (data or {}).items()}
    for name, one in given.items():
        if not isinstance(one, Path | Parts):
            fix = "give a path, or convoy.partition.Parts(arrays, partition)"
            raise BadInput(f"the data {name!r} is a {type(one).__name__}", fix=fix)
    plan = read_plan(Path(job), sites=sites, data=given)
    place = Path(results) if results is not None else Path(tempfile.mkdtemp(prefix="convoy-simulated-"))
    try:
        say = _say if progress else _nothing
        with (
            ahead(workers, engine) as forks,
            gathered(workers, engine=engine, gpus_per_site=gpus_per_site, say=say, forks=forks) as choice,
        ):
            done = run(plan, place, workers=choice, told=_teller(progress, plan.job.name))
    except BaseException:
        if results is None:
            rmtree(place, ignore_errors=True)
        raise
    if results is None:
        weakref.finalize(done, rmtree, place, ignore_errors=True)
    if done.interrupted:
        raise KeyboardInterrupt
    if done.job.state != "completed":
        fix = f"see {done.folder / 'logs'}" if results is not None else "give `results`, a new folder, to keep the logs"
        raise JobFailed(f"job {done.job.name} {done.job.state}", why=done.job.cause, fix=fix)
    return done


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - that is what was asked for


def _nothing(_: str) -> None:
    """Say nothing."""


def _teller(progress: bool | Progress, name: str) -> Told:
    """Return what hears of each round."""
    if progress is False:
        return lambda _, __: None
    hears = progress if callable(progress) else _shown(name)

    def told(job: ReadOnlyJob, made: Round) -> None:
        if made.round:
            hears(told_of(job, made))

    return told


def _shown(name: str) -> Progress:
    """Return what shows rounds: a bar in a notebook, a line each elsewhere."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        return lambda made: _say(f"{name}  {line(made)}")
    display = sys.modules["IPython"].display.display
    handle = display({"text/plain": name}, raw=True, display_id=True)

    def show(made: Mapping[str, Any]) -> None:
        text = f"{name}  {line(made)}"
        bar = f'<progress max="{made["rounds"] or made["round"]}" value="{made["round"]}"></progress>'
        handle.update({"text/plain": text, "text/html": f"{bar} {escape(text)}"}, raw=True)

    return show
