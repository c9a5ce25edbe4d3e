"""A federation in memory, for tests of jobs: a workflow and trainers run under the server's own rules, in one process.

result = convoy.testing.run("fedavg", train, sites={"a": {"rows": 10}, "b": {"rows": 20}}, model={"w": zeros}, rounds=3)
assert result.history[-1]["metrics"]["loss"] < 0.1
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convoy.control.points import Point
from convoy.control.records import Round
from convoy.control.view import ReadOnlyJob
from convoy.errors import BadInput
from convoy.flows import catalog
from convoy.flows.turns import Turns
from convoy.model.arrays import Model
from convoy.sim.calls import Calls, Measuring, Trainer
from convoy.sim.federation import JOB, Setting
from convoy.sim.federation import Federation as Simulated
from convoy.worker import tasks
from convoy.worker.setup import Data, Setup

__all__ = ["Federation", "Result", "run"]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run left: the last model and state, the best model, and what happened on the way."""

    model: Model
    state: Model
    best: Model | None
    history: Sequence[Mapping[str, Any]]
    rounds: Sequence[Round]  # who took part in each, and who was left out
    states: Mapping[str, Model]  # what each site keeps for its next task
    log: Sequence[str]
    points: Mapping[str, Sequence[Point]]  # live metrics of each site; of the workflow under "server"


def run(
    workflow: str | Callable[..., Any],
    trainer: Trainer | Mapping[str, Trainer],
    *,
    sites: Mapping[str, Mapping[str, Any]] | Iterable[str],
    model: Any = None,
    config: Mapping[str, Any] | None = None,
    **parameters: Any,
) -> Result:
    """Run a workflow to its end in memory; `parameters` are those of `with` in job.yaml.

    `workflow`: the name of a built-in one, or an async function of the fleet. `trainer`: a function of a task, for
    every kind of question, or functions by kind. `sites`: names, each with its data, which a trainer finds as
    `task.data`. `model`: the initial arrays, or a function that returns them. Trainers are called one after the other
    in site order. What a trainer raises leaves its site out, as in a federation; what the workflow raises is raised.
    """
    made = Federation(trainer, sites=sites, model=model, config=config)
    return asyncio.run(made.run(workflow, **parameters))


class Federation:
    """Sites in memory, and a job; a workflow that stops half way may be run again and goes on at its last commit."""

    def __init__(
        self,
        trainer: Trainer | Mapping[str, Trainer],
        *,
        sites: Mapping[str, Mapping[str, Any]] | Iterable[str],
        model: Any = None,
        config: Mapping[str, Any] | None = None,
        seed: str = "",
    ) -> None:
        """Start the job with every site ready; see `run`."""
        data = sites if isinstance(sites, Mapping) else {name: {} for name in sites}
        told = dict(config or {})
        self.log: list[str] = []
        self.points: defaultdict[str, list[Point]] = defaultdict(list)
        self._initial = model
        begins = {name: Setup(JOB, "test", name, told, Data(theirs), seed) for name, theirs in data.items()}
        setting = Setting("test", told, seed, list(data))
        self._simulated = Simulated(
            setting,
            Calls(trainer, begins, self.log.append, self._first, self._hear),
            self.log.append,
            repeats=True,
        )
        self._own = Measuring(
            Setup(JOB, "test", "server", told, Data(), seed), lambda: self.job.committed + 1, self._hear
        )

    @property
    def job(self) -> ReadOnlyJob:
        """The job as the server's rules see it."""
        return self._simulated.job

    @property
    def rounds(self) -> list[Round]:
        """The committed rounds."""
        return self._simulated.rounds

    async def run(self, workflow: str | Callable[..., Any], **parameters: Any) -> Result:
        """Run a workflow from the last commit on. Raises what it raises."""
        function = catalog.built_in(workflow) if isinstance(workflow, str) else workflow
        if isinstance(workflow, str):
            for name, problem in catalog.BUILT_IN[workflow].wrong(parameters).items():
                raise BadInput(f'"{name}" is {parameters.get(name)!r}', fix=problem)
        before, tasks.Here.session = tasks.Here.session, self._own
        try:
            turns = await self._simulated.run(lambda fleet: function(fleet, **parameters), self._first)
        finally:
            tasks.Here.session = before
        return self.result(turns)

    def _hear(self, site: str, point: Point) -> None:
        self.points[site].append(replace(point, number=len(self.points[site])))

    def _first(self) -> Any:
        return self._initial() if callable(self._initial) else self._initial or {}

    def result(self, turns: Turns | None = None) -> Result:
        """Return what is committed so far."""
        made, simulated = self.rounds, self._simulated
        last, best = self.job.last, self.job.best
        return Result(
            simulated.model("" if last is None else last.model),
            simulated.model("" if last is None else last.state),
            None if best is None else simulated.model(best.model),
            () if turns is None else turns.history,
            tuple(made),
            {str(site): simulated.states.load(site, it.question) for site, it in sorted(self.job.after.items())},
            tuple(self.log),
            {site: tuple(points) for site, points in sorted(self.points.items())},
        )
