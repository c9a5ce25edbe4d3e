"""The federation's decisions: `step(event, now) -> effects`, with no I/O and no clock of its own.

The caller makes the records of `Save` durable in the order they come, and does what follows a waiting `Save` only
then: so nothing is ever said that a crash could take back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from convoy.control import effects, events, faults, jobs, questions
from convoy.control.clock import Now
from convoy.control.faults import supervised
from convoy.control.jobs import Outcome
from convoy.control.reactions import react
from convoy.control.records import JobId
from convoy.control.state import Keeping, LiveJob, Needs, State, Stopping, Working
from convoy.control.view import ReadOnlyState


class Machine:
    """One server's decisions; `needs_of` reads what a job.yaml (as JSON) demands."""

    def __init__(self, state: State, needs_of: Callable[[str], Needs]) -> None:
        """Take the state over, as loaded from the store."""
        self._state = state
        self._needs_of = needs_of

    @property
    def state(self) -> ReadOnlyState:
        """What the machine knows: it changes by events alone."""
        return self._state

    def step(self, event: events.Event, now: Now) -> list[effects.Effect]:
        """Return what is to be done about an event; an event of a job that is gone is nothing."""
        found = self._of_job(event, now) if isinstance(event, events.OfJob) else self._of_all(event, now)
        return list(found)

    def resume(self) -> list[effects.Effect]:
        """Return what a server does first: workflows that ran go on, ends that were begun are finished."""
        found: list[effects.Effect] = []
        for job in self._state.jobs.values():
            if isinstance(job.phase, Working):
                found.append(effects.RunFlow(job.record.id))
            elif isinstance(job.phase, Keeping):
                found.append(effects.KeepResults(job.record.id))
        return found

    def wake(self) -> float:
        """Return the instant (on `Now.mono`) at which `TimePassed` is due; infinity if nothing waits for time."""
        return min((self._job_wake(job) for job in self._state.jobs.values() if not job.over), default=math.inf)

    def _job_wake(self, job: LiveJob) -> float:
        ending = job.phase.until if isinstance(job.phase, Stopping) else math.inf
        if self._state.problem:  # patience and deadlines stand still: see `jobs.storage`
            return ending
        questions = min((question.wake for question in job.questions.values() if not question.ended), default=math.inf)
        pending = min((it.since + job.needs.patience_s for it in job.pending.values()), default=math.inf)
        return min(questions, pending, ending)

    def _of_job(self, event: events.OfJob, now: Now) -> Iterator[effects.Effect]:
        job = self._state.jobs.get(event.job)
        if job is not None and job.record.faults < faults.MAX_FAULTS:  # else it is quarantined
            job.happened.append((now.mono, event))
            yield from supervised(job, react(self._state, job, event, now), now)
            if not isinstance(job.phase, Working):  # while its workflow runs, nothing of it is over
                yield from self._settle(job, now)

    def _of_all(self, event: events.OfAll, now: Now) -> Iterator[effects.Effect]:
        match event:
            case events.Submitted(job=record):
                if record.id not in self._state.jobs:
                    self._state.jobs[record.id] = LiveJob(record, self._needs_of(record.spec))
                    yield effects.Save(record)
                yield from jobs.schedule(self._state, now)
            case events.SiteJoined() | events.SiteLeft() | events.SiteSwitched() | events.SiteRevoked():
                yield from self._site(event, now)
            case events.SitesListed(sites=names):
                yield from jobs.listed(self._state, names, now)
                yield from jobs.schedule(self._state, now)
            case events.StorageChanged(problem=problem):
                yield from jobs.storage(self._state, problem, now)
            case events.TimePassed():
                yield from self._time(now)
            case events.Retired(job=job_id):
                self._ended(job_id)
            case events.DeleteAsked(job=job_id):
                if self._ended(job_id):
                    yield effects.Forget(job_id)

    def _ended(self, job: JobId) -> bool:
        """Let go of a job that has ended; return whether it is one: what is not known here is in the ledger alone."""
        live = self._state.jobs.get(job)
        if live is not None and not live.over:
            return False
        if live is not None:
            self._state.ended[live.record.state] += 1
            del self._state.jobs[job]
        return True

    def _site(
        self, event: events.SiteJoined | events.SiteLeft | events.SiteSwitched | events.SiteRevoked, now: Now
    ) -> Iterator[effects.Effect]:
        site = self._state.sites[event.site]
        match event:
            case events.SiteJoined():
                site.connected, site.capacity, site.version = True, event.capacity, event.version
                site.seen_at, site.missing = now.wall, event.missing
                for job in self._state.jobs.values():
                    work = jobs.welcome(self._state, job, site, event.holds, now)
                    yield from supervised(job, work, now)
                yield from jobs.schedule(self._state, now)
            case events.SiteLeft():
                site.connected, site.seen_at = False, now.wall
                for job in self._state.jobs.values():
                    yield from self._settle(job, now)
            case events.SiteRevoked():
                site.connected = False
                for job in self._state.jobs.values():
                    work = jobs.expelled(job, site.name, "its certificate was revoked")
                    yield from supervised(job, work, now)
            case events.SiteSwitched():
                site.enabled = event.enabled
                if not event.enabled:
                    for job in self._state.jobs.values():
                        yield from supervised(job, questions.leave_out(job, site.name, questions.DISABLED), now)
                yield from jobs.schedule(self._state, now)

    def _time(self, now: Now) -> Iterator[effects.Effect]:
        for job in list(self._state.jobs.values()):
            if not self._state.problem:
                yield from supervised(job, self._overdue(job, now), now)
            yield from self._settle(job, now)

    def _settle(self, job: LiveJob, now: Now) -> Iterator[effects.Effect]:
        return supervised(job, jobs.settle(self._state, job, now), now)

    def _overdue(self, job: LiveJob, now: Now) -> Iterator[effects.Effect]:
        yield from questions.expire(job, now)
        for waiting in list(job.pending.values()):
            if now.mono >= waiting.since + job.needs.patience_s:
                why = questions.too_few_there(self._state, job, waiting.question)
                yield from jobs.end(self._state, job, Outcome("failed", why), now)
