"""The federation in memory: the server's machine decides, an engine does the visits, a workflow hears the answers.

    workflow ── Turns ── Federation ── Machine        questions and commits go down, answers come up
                             └── Engine               visits, in the order in which the machine asks for them

Answers reach the machine in the order of the schedule, whatever the engine does at the same time: so the result does
not depend on it. Without devices that is the order of the tasks, and time stands still while sites work; it goes on to
the next instant that the machine waits for when nothing else is left to do.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from convoy import errors
from convoy.control import cohort, effects, events, rounds
from convoy.control.clock import Now
from convoy.control.machine import Machine
from convoy.control.records import Answer, Job, JobId, Question, Round, SiteName, Task
from convoy.control.state import LiveSite, Needs, State
from convoy.control.view import ReadOnlyJob
from convoy.errors import ConvoyError, JobFailed
from convoy.flows import fleet as fleets
from convoy.flows.carrier import Commit, Ended, Heard
from convoy.flows.turns import Past, Turns
from convoy.model import frameworks, schema
from convoy.model.arrays import NO_ARRAYS, Model
from convoy.sim.devices import Device
from convoy.sim.schedule import Check, Doing, Drop, Schedule
from convoy.sim.states import States
from convoy.sim.visits import Engine, Visit, Visited
from convoy.store.arrays import laid_out

JOB: Final = JobId("0" * 32)
CAPACITY: Final = events.Capacity(1, 1, 1)
TURNS: Final = 4  # of the event loop, in which a workflow that hears something asks again
TURN_S: Final = 0.005  # after which others get a turn
Flow = Callable[[Turns], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a job brings into a federation in memory."""

    name: str
    config: Mapping[str, Any]
    seed: str
    sites: Sequence[str]
    min_sites: int = 1
    patience_s: float = 600.0
    spec: str = "{}"  # job.yaml as JSON
    devices: Mapping[str, Device] = field(default_factory=dict)  # by site; none: everything takes no time


class Federation:
    """A job at sites in memory; a workflow that stops half way may be run again and goes on at its last commit."""

    def __init__(
        self,
        setting: Setting,
        engine: Engine,
        say: Callable[[str], None],
        *,
        told: Callable[[Round], None] = lambda _: None,
        repeats: bool = False,
        states: States | None = None,
    ) -> None:
        """Start the job with every site ready; `say` gets lines of the workflow's log, `told` each committed round.

        `repeats`: answers that were heard are kept until their round is committed, for a workflow that is run again.
        """
        self.rounds: list[Round] = []  # the committed ones
        self.states = states or States()
        self.schedule = Schedule(setting.devices)
        self._setting, self._engine, self._say = setting, engine, say
        self._told, self._repeats = told, repeats
        self._models: dict[str, Model] = {"": NO_ARRAYS}  # questions' and committed models, by digest
        self._answers: dict[tuple[str, SiteName], Model] = {}  # by question and site, until their question is committed
        self._tellers: dict[str, Callable[[Heard | Ended], None]] = {}
        self._more = asyncio.Event()
        self._now = Now(0.0, 0.0)
        self._happened: deque[events.Event] = deque()
        self._arrived: list[tuple[Doing, Visited]] = []  # of which the machine has not heard
        self._busy = False
        self._turns_each = TURNS if setting.devices else 0
        needs = Needs(setting.min_sites, frozenset(), 0.0, 0, 0.0, setting.patience_s, setting.seed)
        live = {SiteName(name): LiveSite(SiteName(name)) for name in sorted(setting.sites)}
        self._machine = Machine(State(max_jobs=1, sites=live), lambda _: needs)
        self._post(*(events.SiteJoined(site, CAPACITY, "", frozenset()) for site in live))
        self._post(events.Submitted(Job(JOB, setting.name, "", "", "", 0, setting.spec, "submitted", "", 0.0)))
        self.job: ReadOnlyJob = self._machine.state.jobs[JOB]  # as the server's rules see it
        self._post(*(events.MemberReady(JOB, site) for site in live))

    def model(self, digest: str) -> Model:
        """Return the arrays of a committed round."""
        return self._models[digest]

    async def run(self, flow: Flow, initial: Callable[[], Any]) -> Turns:
        """Run a workflow from the last commit on; `initial` gives the first model. Raises what it raises."""
        if self.job.questions or self.job.pending:
            self._post(events.FlowDied(JOB, "it was run again"))
        self._more = asyncio.Event()  # of this event loop: the workflow may be run again in another
        turns = self._turns()
        if not turns.begun:
            await turns.begin(initial())
        working = asyncio.ensure_future(flow(turns))
        visiting = asyncio.ensure_future(self._visit())
        try:
            await asyncio.wait({working, visiting}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                visiting.result()  # which it raises
            await working
        finally:
            for task in (working, visiting):
                task.cancel()
            await asyncio.wait({working, visiting})
        return turns

    def _turns(self) -> Turns:
        last = self.rounds[-1] if self.rounds else None
        history = [{"round": it.round, "metrics": dict(it.metrics), "best": it.best} for it in self.rounds]
        past = Past(committed=self.job.committed, history=history, waiting=rounds.waiting(self.job))
        if last is not None:
            past = replace(past, model=self._models[last.model], state=self._models[last.state])
        job = fleets.Job(JOB, self._setting.name, self._setting.config)
        return Turns(job, self, past, self._say)

    def end(self, error: str = "", traceback: str = "") -> None:
        """End the job: completed, or failed with an error of its workflow."""
        self._over(events.FlowFailed(JOB, error, traceback) if error else events.FlowDone(JOB))

    def abort(self, by: str) -> None:
        """End the job because of a person, or what a person did."""
        self._over(events.AbortAsked(JOB, by))

    def _over(self, how: events.Event) -> None:
        """End the job; nothing of it is left at any site: the last one first, for the first is looked for each time."""
        self._post(how, *(events.MemberStopped(JOB, site) for site in reversed([*self.job.members])))

    # ---- what carries the workflow (`convoy.flows.carrier.Carrier`) ------------------------------------------------
    def ask(self, question: Question, arrays: Any, tell: Callable[[Heard | Ended], None]) -> None:
        """Ask, and tell what comes."""
        if arrays is not None:
            question = replace(question, model=self._kept(arrays).digest)
        self._tellers[question.id] = tell
        if question.by_arrival:  # the order of the next tasks follows from what the workflow does now
            self._turns_each = TURNS
        self._post(events.Asked(question))

    async def commit(self, commit: Commit, model: Model, state: Model | None) -> tuple[Model, Model]:
        """Keep a round."""
        kept, own = self._kept(model), self._kept(state) if state is not None else NO_ARRAYS
        self._post(
            events.CommitAsked(
                JOB,
                commit.round,
                kept.digest,
                commit.metrics,
                commit.best,
                commit.left_out,
                own.digest,
                commit.folded,
                commit.spread,
            ),
            events.ModelSynced(JOB, commit.round),
        )
        if self.job.record.state != "running":
            raise JobFailed(self.job.record.cause)
        self._forget()
        return kept, own

    async def sites(self) -> list[str]:
        """Return the sites that could be asked now."""
        return list(cohort.eligible(self._machine.state, self.job, ()))

    # ---- visits ----------------------------------------------------------------------------------------------------
    async def _visit(self) -> None:
        """Let one thing after the other happen, and give the workflow turns."""
        while True:
            wake = self._machine.wake()
            at = self.schedule.next(wake)
            if at < math.inf:
                self._now = Now(at, at)
                with self._engine.working():
                    await self._stretch()
            elif wake < math.inf:
                self._now = Now(wake, wake)
                for site in self.schedule.busy():
                    self._post(events.Progressed(JOB, site))
                self._post(events.TimePassed())
            else:
                self._more.clear()
                await self._more.wait()
            for _ in range(self._turns_each or 1):
                await asyncio.sleep(0)

    async def _stretch(self) -> None:
        """Let happen what happens at this instant until the workflow gets a turn.

        It gets one after each thing where the order of its next questions matters, and else every few milliseconds:
        it hears answers in the order of their sites, whenever they come. The machine waits for no earlier instant.

        Where nothing goes on while a visit is done, the machine hears of all of them together: the processor's caches
        hold a visit's code, or the rules', and not both, so that taking turns takes a tenth longer.
        """
        until = time.monotonic() + TURN_S
        try:
            while True:
                await self._happens(self.schedule.first())
                if not self._engine.inside:
                    self._hear_arrived()
                if self._turns_each or not self.schedule.due(self._now.mono) or time.monotonic() > until:
                    return
        finally:
            self._hear_arrived()

    async def _happens(self, what: Doing | Drop | Check) -> None:
        """Do what the schedule says; it is taken off once it is done, so that a workflow that is run again goes on."""
        now = self._now.mono
        match what:
            case Doing() if what.came is not None:
                self.schedule.pop()
                self._arrived.append((what, what.came))
            case Doing() if not self._wanted(what) or self.schedule.waits(now, what):
                self.schedule.pop()
            case Doing():
                came = await what.coming()
                self.schedule.pop()
                if self.schedule.worked(now, what, came):
                    self._arrived.append((what, came))
            case Drop():
                self.schedule.pop()
                if self.schedule.dropped(now, what):
                    self._there(what.doing.site, there=False)
            case Check(site=site):
                self.schedule.pop()
                self._there(site, there=self.schedule.checked(now, what))

    def _hear_arrived(self) -> None:
        """Let the machine hear of what has arrived, in its order."""
        arrived, self._arrived = self._arrived, []
        for doing, came in arrived:
            if self._wanted(doing):
                doing.came = came
                self.schedule.arrived(doing)
                self._post(self._came(doing.site, doing.question, came))

    def _wanted(self, doing: Doing) -> bool:
        """Whether anybody waits for a task."""
        question = self.job.questions.get(doing.question.id)
        return not doing.over and question is not None and question.tasks[doing.site].state == "open"

    def _there(self, site: SiteName, *, there: bool) -> None:
        """Tell the machine that a site has gone, or is back."""
        device = self._setting.devices[site]
        if device.connected == there:
            return
        device.connected = there
        if there:
            self._post(events.SiteJoined(site, CAPACITY, "", frozenset([JOB])), events.MemberReady(JOB, site))
        else:
            self._post(events.SiteLeft(site))

    def _came(self, site: SiteName, question: Question, visited: Visited) -> events.Event:
        """Return what came of a visit as the event that the server would see."""
        if visited.error:
            return events.Unusable(JOB, question.id, site, visited.error, visited.traceback)
        digest, size = "", 0
        if visited.arrays is not None:
            try:
                if question.max_norm and question.reply is None:
                    schema.check_distance(visited.arrays, self._models[question.model], question.max_norm)
            except ConvoyError as problem:
                return events.Unusable(JOB, question.id, site, errors.line(problem))
            self._answers[question.id, site] = visited.arrays
            digest = f"{question.id}/{site}"  # it has no other name: nothing reads it by its bytes
        if visited.state is not None:
            size = self.states.keep(site, question.id, visited.state)
        answer = Answer(question.id, digest, visited.weight, visited.metrics, visited.value, state_bytes=size)
        return events.Answered(JOB, site, answer)

    # ---- the rest of a federation ----------------------------------------------------------------------------------
    def _post(self, *happened: events.Event) -> None:
        """Let things happen, and what follows from them, one after the other."""
        self._happened.extend(happened)
        if self._busy:
            return
        self._busy = True
        try:
            while self._happened:
                for effect in self._machine.step(self._happened.popleft(), self._now):
                    self._do(effect)
        finally:
            self._busy = False

    def _do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Save(record=Task()) | effects.SendReceipt() | effects.SendCommitted():
                pass  # of these there is one for each visit
            case effects.SendTask(site=site, question=question, after=after):
                model = self._models[question.model]

                def start() -> Callable[[], Awaitable[Visited]]:
                    return self._engine.start(Visit(site, question, model, self.states.load(site, after)))

                self.schedule.begin(self._now.mono, site, question, model, start)
                self._more.set()
            case effects.SendCancel(site=site, question=question_id):
                self.schedule.cancel(self._now.mono, site, question_id)
            case effects.TellAnswer(task=task):
                came = task.answer if task.state == "received" else None
                model = self._heard(task.question, task.site) if came else NO_ARRAYS
                asked = self.job.questions[task.question].record
                base = self._models[asked.model] if asked.outlives else NO_ARRAYS
                said = "" if came else task.reason
                self._tellers[task.question](Heard(task.site, came or Answer(task.question), model, said, base))
            case effects.TellEnd(question=question_id, error=error):
                self._tellers[question_id](Ended(question_id, error))
            case effects.KeepResults():
                self._happened.append(events.ResultsKept(JOB))
            case effects.Save(record=Round() as made) if made.model:
                self.rounds.append(made)
                self._told(made)
            case effects.Note(text=text):
                self._say(text)

    def _heard(self, question: str, site: SiteName) -> Model:
        """Return the arrays of an answer that the workflow hears."""
        take = self._answers.get if self._repeats else self._answers.pop
        return take((question, site), NO_ARRAYS)

    def _kept(self, arrays: Any) -> Model:
        """Return arrays as a model with a digest, their bytes their own: what a caller changes later stays here."""
        if isinstance(arrays, Model) and arrays.digest in self._models and arrays.digest:
            return arrays
        named = arrays if isinstance(arrays, Model) else frameworks.to_arrays(arrays)
        packed, layout = laid_out({name: array.copy() for name, array in named.items()})
        digests = {tensor.name: tensor.digest for tensor in layout.tensors if tensor.digest}
        return self._models.setdefault(layout.digest, Model(packed, layout.digest, digests))

    def _forget(self) -> None:
        """Let go of what no open question and no kept round needs."""
        open_ = self.job.questions
        self._answers = {key: model for key, model in self._answers.items() if key[0] in open_}
        self._tellers = {key: tell for key, tell in self._tellers.items() if key in open_}
        self.states.settle({site: it.question for site, it in self.job.after.items()}, open_.keys())
        kept = [self.job.last, self.job.best]
        needed = {"", *(question.record.model for question in open_.values())}
        needed |= {digest for it in kept if it is not None for digest in (it.model, it.state)}
        self._models = {digest: model for digest, model in self._models.items() if digest in needed}
