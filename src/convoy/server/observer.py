"""Watches the decisions of the state machine, and measures from them: phases of rounds, answers, ends of workflows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from convoy.control import effects, events, omissions
from convoy.control.clock import Now
from convoy.control.records import JobId, Round, SiteName, Task
from convoy.control.view import ReadOnlyState
from convoy.node.phases import AtServer, Phase, Phases
from convoy.wire.health import Metric
from convoy.wire.measures import Counter

K = TypeVar("K")
MAX_BEGUN: Final = 1000  # instants of one kind for one job: a workflow may ask and never end what it asks


@dataclass(slots=True)
class Running:
    """What is under way in one job: instants at which something began, `MAX_BEGUN` of each kind at most."""

    moved: float = 0.0  # when it last went on, in seconds since the epoch
    rounds: dict[int, Now] = field(default_factory=dict)
    questions: dict[str, Now] = field(default_factory=dict)
    tasks: dict[tuple[str, SiteName], Now] = field(default_factory=dict)
    commits: dict[int, Now] = field(default_factory=dict)
    folding: tuple[str, int, Now] | None = None  # the question, its round, and when the workflow heard the last answer


@dataclass(slots=True)
class Observer:
    """Sees each event with the effects that it had, and some effects once they are done; it decides nothing."""

    state: ReadOnlyState
    phases: Phases
    jobs: dict[str, Running] = field(default_factory=dict)
    rounds: Counter = field(
        default_factory=lambda: Counter("convoy_rounds_committed_total", "Rounds committed, without the first model.")
    )
    answers: Counter = field(
        default_factory=lambda: Counter("convoy_answers_total", "Answers of sites that the server has accepted.")
    )
    left_out: Counter = field(default_factory=lambda: _left_out())  # noqa: PLW0108 - it is defined below
    deaths: Counter = field(
        default_factory=lambda: Counter(
            "convoy_workflow_deaths_total", "Workflow processes that ended before they were done."
        )
    )
    said: Counter = field(
        default_factory=lambda: Counter("convoy_events_total", "Events that the server has decided about.")
    )

    def decided(self, event: events.Event, found: Iterable[effects.Effect], now: Now) -> None:
        """Measure one decision of the machine."""
        self.said.add()
        key = str(getattr(event, "job", "") or "")
        if JobId(key) in self.state.jobs:  # `Submitted` has a whole record there, and nothing of it is measured
            if key not in self.jobs:
                self.jobs[key] = Running()
            self._began(self.jobs[key], key, event, now)
        if isinstance(event, events.FlowDied):
            self.deaths.add()
        for effect in found:
            self._effect(effect, event, now)

    def performed(self, effect: effects.Effect, now: Now) -> None:
        """Measure an effect that had to wait until records were durable."""
        if not isinstance(effect, effects.TellCommitted) or effect.job not in self.jobs:
            return
        running, number = self.jobs[effect.job], effect.round
        if number in running.commits:
            self._ended("commit", effect.job, number, running.commits.pop(number), now)
        if number in running.rounds:
            self._ended("round", effect.job, number, running.rounds.pop(number), now)
        running.rounds = {one: since for one, since in running.rounds.items() if one > number}
        running.commits = {one: since for one, since in running.commits.items() if one > number}
        live = self.state.jobs.get(effect.job)
        open_ = set() if live is None else {*live.questions, *live.pending}
        running.questions = {one: since for one, since in running.questions.items() if one in open_}
        running.tasks = {one: since for one, since in running.tasks.items() if one[0] in open_}

    def metrics(self) -> Iterator[Metric]:
        """Yield what was counted."""
        self.jobs = {job: running for job, running in self.jobs.items() if JobId(job) in self.state.jobs}
        for counter in (self.rounds, self.answers, self.left_out, self.deaths, self.said):
            yield from counter.metrics()

    def _began(self, running: Running, job: str, event: events.Event, now: Now) -> None:
        match event:
            case events.Asked(question=question):
                _note(running.rounds, question.round, now)
                _note(running.questions, question.id, now)
                self._folded(running, job, now)
            case events.CommitAsked(round=number):
                if number in running.rounds:  # not so the first model, for which nobody was asked
                    _note(running.commits, number, now)
                self._folded(running, job, now)
            case events.Answered() | events.Progressed():
                pass
            case _:
                return
        running.moved = now.wall

    def _folded(self, running: Running, job: str, now: Now) -> None:
        """The workflow goes on: what it has done since it heard the last answer is a phase."""
        if running.folding is not None:
            question, number, since = running.folding
            running.folding = None
            self._ended("fold", job, number, since, now, question=question)

    def _effect(self, effect: effects.Effect, event: events.Event, now: Now) -> None:
        match effect:
            case effects.SendTask(site=site, question=question) if question.job in self.jobs:
                _note(self.jobs[question.job].tasks, (question.id, site), now)
            case effects.Save(record=Task() as task):
                self._task(task, event, now)
            case effects.Save(record=Round() as made) if made.model and made.round > 0:
                self.rounds.add()
            case effects.TellAnswer(task=task):
                self._told(task.job, task.question, now)
            case effects.TellEnd(job=job, question=question, error=error):
                self._told(job, question, now)
                began = self.jobs[job].questions.pop(question, None) if job in self.jobs else None
                if began is not None:
                    self._ended("ask", job, _round(question), began, now, question=question, error=error)
            case effects.Retire(job=job) | effects.Forget(job=job):
                self.jobs.pop(job, None)
            case _:
                return

    def _told(self, job: JobId, question: str, now: Now) -> None:
        if job in self.jobs:
            self.jobs[job].folding = (question, _round(question), now)

    def _task(self, task: Task, event: events.Event, now: Now) -> None:
        kind = omissions.kind(task, event)
        if kind is not None:
            self.left_out.add(kind)
        elif task.state == "received" and isinstance(event, events.Answered):
            self.answers.add()
        began = self.jobs[task.job].tasks.pop((task.question, task.site), None) if task.job in self.jobs else None
        if began is not None:
            error = task.reason if kind else ""
            number = _round(task.question)
            self._ended("task", task.job, number, began, now, question=task.question, site=task.site, error=error)

    def _ended(
        self,
        name: AtServer,
        job: str,
        number: int,
        began: Now,
        now: Now,
        *,
        question: str = "",
        site: str = "",
        error: str = "",
    ) -> None:
        seconds = now.mono - began.mono
        self.phases.ended(Phase(name, job, number, now.wall - seconds, seconds, question, site, error))


def _note(begun: dict[K, Now], key: K, now: Now) -> None:
    """Note when something began, once; of more than can be under way, the oldest goes."""
    begun.setdefault(key, now)
    if len(begun) > MAX_BEGUN:
        del begun[next(iter(begun))]


def _left_out() -> Counter:
    """Return a counter that has every kind from the start: what begins at 1 has no rate."""
    made = Counter("convoy_answers_left_out_total", "Answers that do not count, by the kind of reason.", ("kind",))
    for kind in omissions.KINDS:
        made.add(kind, by=0)
    return made


def _round(question: str) -> int:
    return int(question.split(".", 1)[0])
