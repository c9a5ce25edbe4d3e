"""A federation in memory, for tests of jobs: a workflow and trainers run under the server's own rules, in one process.

result = convoy.testing.run("fedavg", train, sites={"a": {"rows": 10}, "b": {"rows": 20}}, model={"w": zeros}, rounds=3)
assert result.history[-1]["metrics"]["loss"] < 0.1
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

from convoy.control import cohort, effects, events, rounds
from convoy.control.clock import Now
from convoy.control.machine import Machine
from convoy.control.records import Answer, Job, JobId, Question, Round, SiteName
from convoy.control.state import LiveSite, Needs, State
from convoy.control.view import ReadOnlyJob
from convoy.errors import BadInput, JobFailed
from convoy.flows import catalog
from convoy.flows import fleet as fleets
from convoy.flows.carrier import Commit, Ended, Heard
from convoy.flows.turns import Past, Turns
from convoy.model import arrays as _arrays
from convoy.model import blob, frameworks, schema
from convoy.model.arrays import Model
from convoy.worker import code
from convoy.worker.replies import Checked, Reply, checked
from convoy.worker.tasks import Begin, Data, Task
from convoy.worker.trainer import as_reply

__all__ = ["Federation", "Result", "run"]

JOB: Final = JobId("0" * 32)
Trainer = Callable[[Task], Any]


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


@dataclass(slots=True)
class _Site:
    """The session of one site's tasks: replies are kept for whoever gave the task."""

    begin: Begin
    load_: Callable[[str], Model]
    said: list[tuple[Task, Reply]] = field(default_factory=list)

    def load(self, digest: str) -> Model:
        """Return the arrays of a digest."""
        return self.load_(digest)

    def answer(self, task: Task, given: Reply) -> None:
        """Take the reply to a task, once."""
        if any(one is task for one, _ in self.said):
            raise BadInput("this task has been answered already", fix="reply once to each task")
        self.said.append((task, given))


class Federation:
    """Sites in memory, and a job; a workflow that stops half way may be run again and goes on at its last commit."""

    def __init__(
        self,
        trainer: Trainer | Mapping[str, Trainer],
        *,
        sites: Mapping[str, Mapping[str, Any]] | Iterable[str],
        model: Any = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Start the job with every site ready; see `run`."""
        data = sites if isinstance(sites, Mapping) else {name: {} for name in sites}
        self.log: list[str] = []
        self.rounds: list[Round] = []  # the committed ones
        self._initial, self._trainer, self._config = model, trainer, dict(config or {})
        self._models: dict[str, Model] = {"": Model({})}
        self._states: dict[tuple[str, str], str] = {}  # digests by site and question
        self._tellers: dict[str, Callable[[Heard | Ended], None]] = {}
        self._happened: deque[events.Event] = deque()
        self._busy = False
        self._sites = {
            name: _Site(Begin(JOB, "test", name, self._config, Data(theirs)), self._models.__getitem__)
            for name, theirs in data.items()
        }
        needs = Needs(min_sites=1, sites=frozenset(), cpu=0.0, memory=0, gpu=0.0, patience_s=600.0)
        live = {SiteName(name): LiveSite(SiteName(name)) for name in sorted(self._sites)}
        self._machine = Machine(State(max_jobs=1, sites=live), lambda _: needs)
        self._post(*(events.SiteJoined(site, events.Capacity(1, 1, 1), "test", frozenset()) for site in live))
        self._post(events.Submitted(Job(JOB, "test", "", "", "", 0, "{}", "submitted", "", 0.0)))
        self._post(*(events.MemberReady(JOB, site) for site in live))

    @property
    def job(self) -> ReadOnlyJob:
        """The job as the server's rules see it."""
        return self._machine.state.jobs[JOB]

    async def run(self, workflow: str | Callable[..., Any], **parameters: Any) -> Result:
        """Run a workflow from the last commit on. Raises what it raises."""
        function = catalog.built_in(workflow) if isinstance(workflow, str) else workflow
        if isinstance(workflow, str):
            for name, problem in catalog.BUILT_IN[workflow].wrong(parameters).items():
                raise BadInput(f'"{name}" is {parameters.get(name)!r}', fix=problem)
        if self.job.questions or self.job.pending:
            self._post(events.FlowDied(JOB, "it was run again"))
        last = self.rounds[-1] if self.rounds else None
        history = [{"round": it.round, "metrics": dict(it.metrics), "best": it.best} for it in self.rounds]
        past = Past(committed=self.job.committed, history=history, waiting=rounds.waiting(self.job))
        if last is not None:
            past = replace(past, model=self._models[last.model], state=self._models[last.state])
        fleet = Turns(fleets.Job(JOB, "test", self._config), self, past, self.log.append)
        if not fleet.begun:
            await fleet.begin(self._initial() if callable(self._initial) else self._initial or {})
        await function(fleet, **parameters)
        return self.result(fleet.history)

    def result(self, history: Sequence[Mapping[str, Any]] = ()) -> Result:
        """Return what is committed so far."""
        made = self.rounds
        best = next((self._models[it.model] for it in reversed(made) if it.best), None)
        kept = {str(site): self._models[self._states[site, it.question]] for site, it in sorted(self.job.after.items())}
        return Result(
            self._models[made[-1].model if made else ""],
            self._models[made[-1].state if made else ""],
            best,
            history,
            tuple(made),
            kept,
            tuple(self.log),
        )

    # ---- what carries the workflow (`convoy.flows.carrier.Carrier`) ------------------------------------------------
    def ask(self, question: Question, arrays: Any, tell: Callable[[Heard | Ended], None]) -> None:
        """Ask, and tell what comes."""
        if arrays is not None:
            question = replace(question, model=self._keep(arrays).digest)
        self._tellers[question.id] = tell
        self._post(events.Asked(question))

    async def commit(self, commit: Commit, model: Model, state: Model | None) -> tuple[Model, Model]:
        """Keep a round."""
        kept, own = self._keep(model), self._keep(state) if state is not None else Model({})
        self._post(
            events.CommitAsked(
                JOB, commit.round, kept.digest, commit.metrics, commit.best, commit.left_out, own.digest, commit.folded
            ),
            events.ModelSynced(JOB, commit.round),
        )
        if self.job.over or self.job.record.state == "ending":
            raise JobFailed(self.job.record.cause)
        return kept, own

    async def sites(self) -> list[str]:
        """Return the sites that could be asked now."""
        return list(cohort.eligible(self._machine.state, self.job, ()))

    # ---- the rest of a federation -----------------------------------------------------------------------------------
    def _post(self, *happened: events.Event) -> None:
        """Let things happen, and what follows from them, one after the other."""
        self._happened.extend(happened)
        if self._busy:
            return
        self._busy = True
        try:
            while self._happened:
                for effect in self._machine.step(self._happened.popleft(), Now(0.0, 0.0)):
                    self._do(effect)
        finally:
            self._busy = False

    def _do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.SendTask(site=site, question=question, after=after):
                self._happened.append(self._trained(site, question, after))
            case effects.TellAnswer(task=task):
                came = task.answer if task.state == "received" else None
                model = self._models[came.digest if came else ""]
                asked = self.job.questions[task.question].record
                base = self._models[asked.model] if asked.outlives else Model({})
                said = "" if came else task.reason
                self._tellers[task.question](Heard(task.site, came or Answer(task.question), model, said, base))
            case effects.TellEnd(question=question_id, error=error):
                self._tellers[question_id](Ended(question_id, error))
            case effects.Save(record=Round() as made) if made.model:
                self.rounds.append(made)
            case effects.Note(text=text):
                self.log.append(text)

    def _trained(self, site: SiteName, question: Question, after: str) -> events.Event:
        """Give a task to a trainer; return its answer, or why there is none."""
        session = self._sites[site]
        task = Task(session, question, self._states.get((site, after), ""))
        try:
            given = self._called(task, session)
            said = checked(given, task, self.log.append)
        except Exception as error:  # noqa: BLE001 - the supervisor of foreign code: whatever it raises is the site's news
            return events.Unusable(JOB, question.id, site, code.line(error), code.traceback(error))
        return events.Answered(JOB, site, self._answer(site, question, said))

    def _called(self, task: Task, session: _Site) -> Reply:
        named = self._trainer.get(task.kind) if isinstance(self._trainer, Mapping) else self._trainer
        if named is None:
            raise BadInput(f"there is no function for {task.kind!r} tasks")
        result = named(task)
        if inspect.iscoroutine(result):
            with ThreadPoolExecutor(1) as pool:  # a loop of its own, as in a trainer's process
                result = pool.submit(asyncio.run, result).result()
        for one, given in session.said:
            if one is task:
                return given
        return as_reply(task, result)

    def _answer(self, site: SiteName, question: Question, said: Checked) -> Answer:
        answer = Answer(question.id, "", said.weight, said.metrics, said.value)
        if said.arrays is not None:
            kept = self._keep(said.arrays)
            base = self._models[question.model] if question.reply is None else None
            schema.check_values(kept, base, question.max_norm)
            answer = replace(answer, digest=kept.digest)
        if said.state is not None:
            state = self._keep(said.state)
            self._states[site, question.id] = state.digest
            answer = replace(answer, state_bytes=max(state.nbytes, 1))
        return answer

    def _keep(self, arrays: Any) -> Model:
        """Return arrays as a model with a digest, their bytes their own: what a caller changes later stays here."""
        if isinstance(arrays, Model) and arrays.digest in self._models and arrays.digest:
            return arrays
        named = arrays if isinstance(arrays, Model) else frameworks.to_arrays(arrays)
        packed = {name: _arrays.packed(array).copy() for name, array in named.items()}
        layout = blob.build(_arrays.describe(packed))
        digests = {tensor.name: tensor.digest for tensor in layout.tensors if tensor.digest}
        return self._models.setdefault(layout.digest, Model(packed, layout.digest, digests))
