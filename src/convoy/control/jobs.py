"""The life of jobs: scheduling, members, commits, ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from convoy.control import cohort, effects, events, lateness, questions, rounds
from convoy.control.clock import Now
from convoy.control.faults import supervised
from convoy.control.records import JobState, Member, Round, SiteName
from convoy.control.state import Keeping, LiveJob, LiveSite, Stalled, State, Stopping, Unsynced, Waiting, Working
from convoy.control.transitions import move
from convoy.errors import by_reason

Effects = Iterator[effects.Effect]

MAX_DEATHS: Final = 3  # of a workflow's process without a commit between them: then it is the code, not the weather
MAX_TRACEBACK: Final = 65_536  # characters: a round that is committed writes its job anew, with this
STOP_S: Final = 8.0  # how long an ending job waits for connected sites to say that they have stopped


def schedule(state: State, now: Now) -> Effects:
    """Start what can start, in the order it came in, with every site that has room; say what the others wait for."""
    for job in list(state.jobs.values()):
        yield from supervised(job, _scheduled(state, job, now), now)


def _scheduled(state: State, job: LiveJob, now: Now) -> Effects:
    if job.record.state == "running" and not state.problem:
        for site in _fitting(state, job):
            if site.name not in job.members or site.name in job.willing:
                yield from enlist(state, job, site, now)
    if job.record.state != "submitted":
        return
    reason, sites = _startable(state, job)
    if reason:
        if job.record.cause != reason:
            job.record = replace(job.record, cause=reason)
            yield effects.Save(job.record, wait=False)
        return
    job.record, job.phase = move(job.record, "running", cause="", started_at=now.wall), Working()
    yield effects.Save(job.record)
    yield effects.RunFlow(job.record.id)
    for site in sites:
        yield from enlist(state, job, site, now)


def _startable(state: State, job: LiveJob) -> tuple[str, list[LiveSite]]:
    if state.problem:
        return f"waiting: {state.problem}", []
    running = sum(1 for other in state.jobs.values() if other.record.state in ("running", "ending"))
    if running >= state.max_jobs:
        return f"waiting for one of the {running} running jobs to end (max_jobs: {state.max_jobs})", []
    there = [site for site in state.sites.values() if site.connected and cohort.wanted(job, site)]
    if len(there) < job.needs.min_sites:
        said = f"waiting for sites: {len(there)} of the {job.needs.min_sites} that it needs are connected"
        return said + _barred(state, job), []
    room = _fitting(state, job)
    if len(room) < job.needs.min_sites:
        full = ", ".join(sorted(site.name for site in there if site not in room))
        return f"waiting for free cores, memory or devices at {full}", []
    return "", room


def _barred(state: State, job: LiveJob) -> str:
    """Say which connected sites an admin has disabled; nothing if there are none."""
    sites = (site for site in state.sites.values() if site.connected and cohort.meant(job, site))
    barred = [site.name for site in sites if not site.enabled]
    return f"; {questions.DISABLED}: {questions.listed(barred)}" if barred else ""


def _fitting(state: State, job: LiveJob) -> list[LiveSite]:
    """Return the connected sites that the job wants and that have room for it now, by name."""
    there = (site for site in state.sites.values() if site.connected and cohort.wanted(job, site))
    return sorted((site for site in there if cohort.fits(state, job, site)), key=lambda site: site.name)


def enlist(state: State, job: LiveJob, site: LiveSite, now: Now) -> Effects:
    """Make a site a member and tell it to start; one that had refused gets what it was asked for then, too."""
    known = job.members.get(site.name)
    member = Member(job.record.id, site.name, "starting") if known is None else move(known, "starting", reason="")
    job.members[site.name] = member
    job.willing.discard(site.name)
    job.seen[site.name] = now.mono
    yield effects.Save(member)  # a site that holds a job which its restarted server does not know of would drop it
    yield effects.SendStart(site.name, job.record.id)
    if known is not None:
        yield from questions.resend(state, job, site.name)


def welcome(state: State, job: LiveJob, site: LiveSite, holds: frozenset[str], now: Now) -> Effects:
    """Bring a site that has just connected into a running job, or back to its tasks."""
    if job.record.state != "running" or not cohort.wanted(job, site):
        return
    member = job.members.get(site.name)
    if member is None:
        if cohort.fits(state, job, site):
            yield from enlist(state, job, site, now)
    elif member.state in ("starting", "ready", "away"):
        job.seen[site.name] = now.mono
        yield from questions.back(job, site.name, "starting" if member.state == "away" else member.state)
        if job.record.id not in holds:
            yield effects.SendStart(site.name, job.record.id)
        yield from questions.resend(state, job, site.name)
    elif member.state == "refused" and job.record.id not in holds:
        job.willing.add(site.name)  # one that still holds it says `stopped` first
    yield from questions.retry_pending(state, job, now)


def ready(state: State, job: LiveJob, site: SiteName, now: Now) -> Effects:
    """The trainer at a site takes tasks."""
    job.seen[site] = now.mono
    yield from questions.back(job, site)
    yield from questions.retry_pending(state, job, now)


def progressed(job: LiveJob, site: SiteName, now: Now) -> Effects:
    """A site has moved bytes, or its trainer works; one whose worker does not run yet has fetched the model for it."""
    job.seen[site] = now.mono
    member = job.members.get(site)
    if member is not None and member.state == "away":
        yield from questions.back(job, site)


def refused(job: LiveJob, site: SiteName, reason: str) -> Effects:
    """A site will not run the job: the others go on. It may be asked once more when it has put the job away."""
    member = job.members.get(site)
    if member is not None and member.state in ("starting", "ready"):
        job.members[site] = member = move(member, "refused", reason=reason)
        yield effects.Save(member, wait=False)
        yield effects.Note("warning", f"the job was refused: {reason}", job.record.id, site)
    yield from questions.without_refusers(job)


def waits(job: LiveJob, event: events.MemberWaits | events.FlowWaits) -> None:
    """Note for people what a worker waits for; a site says it again whenever it comes back."""
    if isinstance(event, events.FlowWaits):
        if isinstance(job.phase, Working | Waiting):
            job.phase = Waiting(event.why) if event.why else Working()
        return
    member = job.members.get(event.site)
    if member is not None and member.state in ("starting", "ready"):
        job.members[event.site] = replace(member, reason=event.why)


def expelled(job: LiveJob, site: SiteName, reason: str) -> Effects:
    """A site is trusted no more: end the job there, and count nothing of it in the open round."""
    member = job.members.get(site)
    if job.record.state != "running" or member is None:
        return
    yield effects.SendStop(site, job.record.id, reason)
    if member.state in ("starting", "ready"):
        job.members[site] = member = move(member, "refused", reason=reason)
        yield effects.Save(member)
    yield from questions.drop(job, site, reason)


def listed(state: State, names: frozenset[SiteName], now: Now) -> Effects:
    """Know the sites of a newer federation.json; one that is not in it takes no part any more."""
    for name in names:
        state.sites.setdefault(name, LiveSite(name))
    for site in state.sites.values():
        gone, site.listed = site.listed and site.name not in names, site.name in names
        if gone:
            site.connected = False
            for job in state.jobs.values():
                yield from supervised(job, expelled(job, site.name, "it left the federation"), now)


def commit(state: State, job: LiveJob, event: events.CommitAsked, now: Now) -> Effects:
    """Keep a round: its model, its metrics, who took part and who did not."""
    if event.round > job.committed:
        took, out = rounds.contribution(state, job, event.round, event.left_out, event.folded)
        metrics = dict(event.metrics)
        record = Round(
            event.job, event.round, event.model, metrics, event.best, took, out, now.wall, event.state, event.spread
        )
        job.unsynced.append(Unsynced(record.round, job.best if record.best else None))
        job.last = record
        job.best = record if record.best else job.best
        job.record = replace(job.record, deaths=0, traceback=site_traceback(job) or job.record.traceback)
        yield from rounds.counted(job, event.round, event.left_out, event.folded)
        rounds.forget(job, event.round)
        yield effects.Save(job.record, wait=False)
        yield effects.Save(record)
    yield effects.TellCommitted(event.job, event.round)
    # After the record: one sync makes the other wait.
    best = job.best.model if job.best is not None and job.synced < job.best.round < event.round else ""
    yield effects.SyncModel(event.job, event.round, event.model, event.state, best)


def synced(state: State, job: LiveJob, round_: int) -> Effects:
    """The round's model is on the disk for good: sites may forget their updates, and so may the server."""
    if round_ <= job.synced:
        return
    job.synced = round_
    past = [commit for commit in job.unsynced if commit.round <= round_]
    job.unsynced = [commit for commit in job.unsynced if commit.round > round_]
    for site in job.members:
        if state.sites[site].connected:  # one that is not offers those answers again
            folded = tuple(question for commit in past for question in commit.folded.get(site, ()))
            yield questions.settled(job, site, folded)
    yield effects.Release(job.record.id)


def storage(state: State, problem: str, now: Now) -> Effects:
    """The disk is full, or has room again: what waited for it goes on, and no clock has moved meanwhile."""
    since, before, state.problem = state.problem_since, state.problem, problem
    yield effects.Note("error" if problem else "info", problem or f"over: {before}")
    if problem:
        state.problem_since = now.mono
        return
    for job in state.jobs.values():
        lateness.shift(job, now.mono - since, now)
        if isinstance(job.phase, Stalled):
            job.phase = Working()
            yield effects.RunFlow(job.record.id)
    yield effects.TakeUp()
    yield from schedule(state, now)


def flow_died(state: State, job: LiveJob, event: events.FlowDied, now: Now) -> Effects:
    """Start the workflow anew from its last commit, unless it keeps dying; without room on the disk, once there is."""
    if job.record.state != "running":
        return
    questions.unheard(job)
    if event.full and state.problem:
        job.phase = Stalled()
        yield effects.Note("warning", f"the workflow waits for room on the disk: {event.how}", job.record.id)
        return
    job.record = replace(job.record, deaths=job.record.deaths + 1)
    yield effects.Save(job.record, wait=False)
    if job.record.deaths > MAX_DEATHS:
        why = f"the workflow's process died {job.record.deaths} times without a commit between: {event.how}"
        yield from end(state, job, Outcome("failed", why, event.traceback), now)
        return
    yield effects.Note("warning", f"the workflow died ({event.how}); it starts anew", job.record.id)
    job.phase = Working()
    yield effects.RunFlow(job.record.id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ends; `traceback` is the traceback of what failed."""

    state: JobState
    cause: str = ""
    traceback: str = ""


def end(state: State, job: LiveJob, how: Outcome, now: Now) -> Effects:
    """Begin to end a running job: stop the workflow and the sites; what follows is in `settle`."""
    if job.record.state != "running":
        return
    traceback = how.traceback or site_traceback(job) or job.record.traceback
    job.record = move(job.record, "ending", outcome=how.state, cause=how.cause, traceback=traceback)
    finish_s = job.needs.patience_s if how.state == "completed" else 0.0
    job.phase = Stopping(now.mono + STOP_S + finish_s)
    job.pending.clear()
    if how.state != "completed":
        yield from _unfinished(state, job)
    yield effects.Save(job.record)
    yield effects.StopFlow(job.record.id)
    yield from _stop_sites(job, finish_s)


def _unfinished(state: State, job: LiveJob) -> Effects:
    """Keep who had answered in the round that the job ends in."""
    asked = [question.record.round for question in job.questions.values() if not question.record.outlives]
    round_ = max(asked, default=-1)
    if round_ > job.committed:
        took, out = rounds.contribution(state, job, round_)
        yield effects.Save(Round(job.record.id, round_, "", {}, False, took, out, 0.0), wait=False)


def _stop_sites(job: LiveJob, finish_s: float = 0.0) -> Effects:
    for site, member in job.members.items():
        if member.state != "ended":
            yield effects.SendStop(site, job.record.id, job.record.cause or "the job is over", finish_s)


def site_traceback(job: LiveJob) -> str:
    """Return the end of the tracebacks that sites sent for the open round, each once, under the names of its sites."""
    tracebacks = [
        (task.site, f"task {task.question}:\n{task.traceback.rstrip()}")
        for question in job.questions.values()
        for task in question.tasks.values()
        if task.traceback
    ]
    return "\n\n".join(f"at {said}" for said in by_reason(tracebacks, ", "))[-MAX_TRACEBACK:]


def stopped(job: LiveJob, site: SiteName) -> Effects:
    """Nothing of the job is left at a site: one that had refused a running job may have changed its mind."""
    member = job.members.get(site)
    if member is None or member.state == "ended":
        return
    if job.record.state != "running":
        job.members[site] = member = move(member, "ended", reason=member.reason)
        yield effects.Save(member, wait=False)
    elif member.state == "refused":
        job.willing.add(site)


def settle(state: State, job: LiveJob, now: Now) -> Effects:
    """Go on once no connected site holds a job: keep the results of one that ends, let go of one that has ended."""
    if job.over and not _held(state, job):
        yield effects.Retire(job.record.id)
    if isinstance(job.phase, Stopping) and (now.mono >= job.phase.until or not _held(state, job)):
        job.phase = Keeping()
        yield effects.KeepResults(job.record.id)  # now, for only now the logs have the sites' last words


def _held(state: State, job: LiveJob) -> bool:
    """Whether a connected site still holds the job: its last words may be on their way."""
    return any(one.state != "ended" and state.sites[one.site].connected for one in job.members.values())


def results_kept(state: State, job: LiveJob, problem: str, now: Now) -> Effects:
    """End a job whose results are in the object store; if they are not, it has failed, and its models stay."""
    if problem:
        yield effects.Note("error", f"the job's results: {problem}", job.record.id)
    if not isinstance(job.phase, Keeping):
        return
    if problem and job.record.outcome == "completed":
        job.record = replace(job.record, outcome="failed", cause=problem)
    job.record, job.phase = move(job.record, job.record.outcome, ended_at=now.wall), None
    job.questions.clear()
    yield effects.Save(job.record)
    yield effects.Sweep(job.record.id, models=not problem)
    yield from schedule(state, now)


def abort(state: State, job: LiveJob, by: str, now: Now) -> Effects:
    """End a job because a person says so; one that ends already ends sooner."""
    cause = f"aborted by {by}"
    match job.record.state:
        case "submitted":
            job.record = move(job.record, "aborted", cause=cause, ended_at=now.wall)
            yield effects.Save(job.record)
            yield effects.Sweep(job.record.id)
        case "running":
            yield from end(state, job, Outcome("aborted", cause), now)
        case "ending":
            if isinstance(job.phase, Stopping):  # what trainers do after their last task is not waited for
                job.phase = Stopping(min(job.phase.until, now.mono + STOP_S))
            yield from _stop_sites(job)
