"""The federation's decisions: `step(event, now) -> effects`, with no I/O and no clock of its own.

The caller makes the records of `Save` durable in the order they come, and does what follows a waiting `Save` only
then: so nothing is ever said that a crash could take back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from convoy.control import effects, events, faults, jobs, questions
from convoy.control.faults import supervised
from convoy.control.jobs import Outcome
from convoy.control.records import JobId
from convoy.control.state import LiveJob, Needs, State
from convoy.errors import Bug


@dataclass(frozen=True, slots=True)
class Now:
    """An instant on two clocks: `mono` decides, `wall` (seconds since the epoch) is for people."""

    mono: float
    wall: float


class Machine:
    """One server's decisions; `needs_of` reads what a job.yaml (as JSON) demands."""

    def __init__(self, state: State, needs_of: Callable[[str], Needs]) -> None:
        """Take the state over, as loaded from the store."""
        self.state = state
        self._needs_of = needs_of

    def step(self, event: events.Event, now: Now) -> list[effects.Effect]:
        """Return what is to be done about an event; an event of a job that is gone is nothing."""
        return list(self._effects(event, now))

    def resume(self) -> list[effects.Effect]:
        """Return what a server does first: workflows that ran go on, ends that were begun are finished."""
        found: list[effects.Effect] = []
        for job in self.state.jobs.values():
            if job.record.state == "running":
                found.append(effects.RunFlow(job.record.id))
            elif job.record.state == "ending":
                found.extend(jobs.resume_end(job))
        return found

    def wake(self) -> float:
        """Return the instant (on `Now.mono`) at which `TimePassed` is due; infinity if nothing waits for time."""
        return min((self._job_wake(job) for job in self.state.jobs.values() if not job.over), default=math.inf)

    def _job_wake(self, job: LiveJob) -> float:
        if self.state.problem:  # patience and deadlines stand still: see `jobs.storage`
            return job.end_by
        questions = min((question.wake for question in job.questions.values() if not question.ended), default=math.inf)
        pending = min((it.since + job.needs.patience_s for it in job.pending.values()), default=math.inf)
        return min(questions, pending, job.end_by)

    def _effects(self, event: events.Event, now: Now) -> Iterator[effects.Effect]:
        match event:
            case events.Submitted(job=record):
                if record.id not in self.state.jobs:
                    self.state.jobs[record.id] = LiveJob(record, self._needs_of(record.spec))
                    yield effects.Save(record)
                yield from jobs.schedule(self.state, now.mono, now.wall)
            case events.SiteJoined() | events.SiteLeft() | events.SiteSwitched() | events.SiteRevoked():
                yield from self._site(event, now)
            case events.SitesListed(sites=names):
                yield from jobs.listed(self.state, names, now.wall)
                yield from jobs.schedule(self.state, now.mono, now.wall)
            case events.StorageChanged(problem=problem):
                yield from jobs.storage(self.state, problem, now.mono, now.wall)
            case events.TimePassed():
                yield from self._time(now)
            case events.Retired(job=job_id):
                self._ended(job_id)
            case events.DeleteAsked(job=job_id):
                if self._ended(job_id):
                    yield effects.Forget(job_id)
            case _:
                job = self.state.jobs.get(event.job)
                if job is not None and job.record.faults < faults.MAX_FAULTS:  # else it is quarantined
                    yield from supervised(job, self._job(job, event, now), now.wall)
                    yield from self._settle(job, now)

    def _ended(self, job: JobId) -> bool:
        """Let go of a job that has ended; return whether it is one: what is not known here is in the ledger alone."""
        live = self.state.jobs.get(job)
        if live is not None and not live.over:
            return False
        if live is not None:
            self.state.ended[live.record.state] += 1
            del self.state.jobs[job]
        return True

    def _site(
        self, event: events.SiteJoined | events.SiteLeft | events.SiteSwitched | events.SiteRevoked, now: Now
    ) -> Iterator[effects.Effect]:
        site = self.state.sites[event.site]
        match event:
            case events.SiteJoined():
                site.connected, site.capacity, site.version = True, event.capacity, event.version
                site.seen_at, site.missing = now.wall, event.missing
                for job in self.state.jobs.values():
                    work = jobs.welcome(self.state, job, site, event.holds, now.mono)
                    yield from supervised(job, work, now.wall)
                yield from jobs.schedule(self.state, now.mono, now.wall)
            case events.SiteLeft():
                site.connected, site.seen_at = False, now.wall
                for job in self.state.jobs.values():
                    yield from self._settle(job, now)
            case events.SiteRevoked():
                site.connected = False
                for job in self.state.jobs.values():
                    work = jobs.expelled(job, site.name, "its certificate was revoked")
                    yield from supervised(job, work, now.wall)
            case events.SiteSwitched():
                site.enabled = event.enabled
                if not event.enabled:
                    for job in self.state.jobs.values():
                        yield from supervised(job, questions.leave_out(job, site.name, questions.DISABLED), now.wall)
                yield from jobs.schedule(self.state, now.mono, now.wall)

    def _time(self, now: Now) -> Iterator[effects.Effect]:
        for job in list(self.state.jobs.values()):
            if not self.state.problem:
                yield from supervised(job, self._overdue(job, now), now.wall)
            yield from self._settle(job, now)

    def _settle(self, job: LiveJob, now: Now) -> Iterator[effects.Effect]:
        return supervised(job, jobs.settle(self.state, job, now.mono, now.wall), now.wall)

    def _overdue(self, job: LiveJob, now: Now) -> Iterator[effects.Effect]:
        yield from questions.expire(job, now.mono)
        for waiting in list(job.pending.values()):
            if now.mono >= waiting.since + job.needs.patience_s:
                why = questions.too_few_there(self.state, job, waiting.question)
                yield from jobs.end(self.state, job, Outcome("failed", why), now.mono)

    def _job(self, job: LiveJob, event: events.Event, now: Now) -> Iterator[effects.Effect]:
        mono = now.mono
        match event:
            case events.Asked():
                yield from questions.ask(self.state, job, event.question, mono)
            case events.Answered():
                yield from questions.back(job, event.site)
                yield from questions.answered(job, event, mono)
            case events.Unusable():
                yield from questions.unusable(job, event)
            case events.Lost():
                yield from questions.lost(self.state, job, event)
            case events.Progressed():
                yield from jobs.progressed(job, event.site, mono)
            case events.MemberReady():
                yield from jobs.ready(self.state, job, event.site, mono)
            case events.MemberWaits() | events.FlowWaits():
                jobs.waits(job, event)
            case events.MemberRefused():
                yield from jobs.refused(job, event.site, event.reason)
                yield from jobs.schedule(self.state, mono, now.wall)
            case events.MemberStopped():
                yield from jobs.stopped(job, event.site)
                yield from jobs.schedule(self.state, mono, now.wall)
            case events.CommitAsked():
                yield from jobs.commit(self.state, job, event, now.wall)
            case events.ModelSynced():
                yield from jobs.synced(self.state, job, event.round)
            case _:
                yield from self._end(job, event, now)

    def _end(self, job: LiveJob, event: events.Event, now: Now) -> Iterator[effects.Effect]:
        match event:
            case events.FlowDone():
                yield from jobs.end(self.state, job, Outcome("completed"), now.mono)
            case events.FlowFailed():
                told = jobs.site_traceback(job)
                traceback = f"{told}\n\n{event.traceback}" if told and event.traceback else told or event.traceback
                yield from jobs.end(self.state, job, Outcome("failed", event.error, traceback), now.mono)
            case events.FlowDied():
                yield from jobs.flow_died(self.state, job, event, now.mono)
            case events.ResultsKept():
                yield from jobs.results_kept(job, event.problem)
            case events.Broken():
                yield from faults.broken(job, event.error, event.traceback, now.wall)
                yield from jobs.schedule(self.state, now.mono, now.wall)
            case events.AbortAsked():
                yield from jobs.abort(self.state, job, event.by, now.mono, now.wall)
            case _:
                raise Bug(f"the machine does not know {type(event).__name__}")
