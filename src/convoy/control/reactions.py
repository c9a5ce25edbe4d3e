"""What is done about each event of one job: a table from the event's type to its rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from convoy.control import effects, events, faults, jobs, questions
from convoy.control.clock import Now
from convoy.control.jobs import Outcome
from convoy.control.state import LiveJob, State
from convoy.errors import Bug

Effects = Iterator[effects.Effect]
Rule = Callable[[State, LiveJob, Any, Now], Effects]


def react(state: State, job: LiveJob, event: events.Event, now: Now) -> Effects:
    """Yield what is to be done about an event of a job. Raises `Bug` for one without a rule."""
    rule = RULES.get(type(event))
    if rule is None:
        raise Bug(f"the machine does not know {type(event).__name__}")
    yield from rule(state, job, event, now)


def _waits(_: State, job: LiveJob, event: events.MemberWaits | events.FlowWaits, __: Now) -> Effects:
    jobs.waits(job, event)
    return iter(())


def _refused(state: State, job: LiveJob, event: events.MemberRefused, now: Now) -> Effects:
    yield from jobs.refused(job, event.site, event.reason)
    yield from jobs.schedule(state, now)


def _stopped(state: State, job: LiveJob, event: events.MemberStopped, now: Now) -> Effects:
    yield from jobs.stopped(job, event.site)
    yield from jobs.schedule(state, now)


def _failed(state: State, job: LiveJob, event: events.FlowFailed, now: Now) -> Effects:
    told = jobs.site_traceback(job)
    traceback = f"{told}\n\n{event.traceback}" if told and event.traceback else told or event.traceback
    return jobs.end(state, job, Outcome("failed", event.error, traceback), now)


def _broken(state: State, job: LiveJob, event: events.Broken, now: Now) -> Effects:
    yield from faults.broken(job, event.error, event.traceback, now)
    yield from jobs.schedule(state, now)


RULES: Final[Mapping[type, Rule]] = {
    events.Asked: lambda state, job, event, now: questions.ask(state, job, event.question, now),
    events.Answered: lambda _, job, event, now: questions.answered(job, event, now),
    events.Unusable: lambda _, job, event, __: questions.unusable(job, event),
    events.Unsent: lambda _, job, event, __: questions.unsent(job, event),
    events.Lost: lambda state, job, event, _: questions.lost(state, job, event),
    events.Progressed: lambda _, job, event, now: jobs.progressed(job, event.site, now),
    events.MemberReady: lambda state, job, event, now: jobs.ready(state, job, event.site, now),
    events.MemberWaits: _waits,
    events.FlowWaits: _waits,
    events.MemberRefused: _refused,
    events.MemberStopped: _stopped,
    events.CommitAsked: jobs.commit,
    events.ModelSynced: lambda state, job, event, _: jobs.synced(state, job, event.round),
    events.FlowDone: lambda state, job, _, now: jobs.end(state, job, Outcome("completed"), now),
    events.FlowFailed: _failed,
    events.FlowDied: jobs.flow_died,
    events.ResultsKept: lambda state, job, event, now: jobs.results_kept(state, job, event.problem, now),
    events.Broken: _broken,
    events.AbortAsked: lambda state, job, event, now: jobs.abort(state, job, event.by, now),
}
