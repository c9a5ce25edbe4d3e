"""The start of a server: loads the ledger, and checks that the files of its jobs are complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from convoy.control import events, holders
from convoy.control.clock import Now
from convoy.control.faults import MAX_FAULTS
from convoy.control.questions import reopen
from convoy.control.records import JobId, SiteName
from convoy.control.state import LiveJob, LiveSite, Needs, State
from convoy.control.view import ReadOnlyJob, ReadOnlyState
from convoy.server.files import Workspace, sync_file
from convoy.spec.kit import Kit
from convoy.store.blobs import BlobFolder
from convoy.store.history import History
from convoy.store.ledger import Contents, Ledger, Switched, Undone
from convoy.trust import enrolment

NOTHING: Final = Needs(1, frozenset(), 0.0, 0, 0.0, 600.0)  # of a job whose job.yaml is not needed any more


def needs_of(spec: str) -> Needs:
    """Return what the state machine needs from a job.yaml (as JSON)."""
    from convoy.flows import catalog  # with numpy; both come with the first open job
    from convoy.spec.job import Job as JobSpec

    job = JobSpec.from_json(spec)
    return Needs(
        min_sites=catalog.least_sites(job.with_),
        sites=frozenset(job.sites or ()),
        cpu=job.resources.cpu,
        memory=job.resources.memory,
        gpu=job.resources.gpu,
        patience_s=job.patience_s,
        seed=job.seed,
    )


@dataclass(frozen=True, slots=True)
class Found:
    """Collects the errors of a start job by job: an error in one job's records or files fails only that job."""

    broken: dict[JobId, Exception] = field(default_factory=dict)  # the first of each

    @contextmanager
    def job(self, job: JobId) -> Iterator[None]:
        """Check one job."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - the supervisor of jobs before there is a machine to end them
            self.broken.setdefault(job, problem)


def load(kit: Kit, ledger: Ledger, workspace: Workspace, found: Found) -> Contents:
    """Return the ledger's state without rounds whose model was lost in a power cut; add the kit's invitations to it."""
    ledger.write(enrolment.invites_from_json(kit.invites_file.read_bytes()) if kit.invites_file.exists() else [])
    contents = ledger.load()
    lost_rounds = undone(contents, ledger.history, workspace, found)
    if not lost_rounds:
        return contents
    for lost in lost_rounds:
        structlog.get_logger().warning("a round is repeated because its model is lost", job=lost.job, round=lost.round)
    ledger.write(lost_rounds)
    return ledger.load()


def state_from(contents: Contents, sites: Iterable[str], found: Found, max_jobs: int, *, now: Now) -> State:
    """Return the state that the ledger describes; sites of open jobs that left the federation stay known."""
    known = set(sites)
    names = known | {member.site for member in contents.members}
    state = State(
        max_jobs=max_jobs,
        sites={SiteName(name): _site(SiteName(name), known, contents) for name in sorted(names)},
    )
    for job in contents.jobs:
        state.jobs[job.id] = LiveJob(job, NOTHING)
        with found.job(job.id):
            if job.faults < MAX_FAULTS:
                state.jobs[job.id].needs = needs_of(job.spec)
    for member in contents.members:
        live = state.jobs[member.job]
        live.members[member.site] = member
        live.seen[member.site] = now.mono
    for record in contents.rounds:
        live = state.jobs[record.job]
        live.last = record if record.round > live.committed else live.last
        live.best = record if record.best else live.best
    for question in contents.questions:
        tasks = [task for task in contents.tasks if (task.job, task.question) == (question.job, question.id)]
        with found.job(question.job):
            reopen(state.jobs[question.job], question, tasks, now)
    for (job_id, site), asked in contents.after.items():
        state.jobs[job_id].after[site] = asked
    for (job_id, site), cost in contents.spent.items():
        state.jobs[job_id].spent[site] = cost
    for live in state.jobs.values():
        live.synced = live.committed  # `tidy` has handled it
    return state


def _site(name: SiteName, known: set[str], contents: Contents) -> LiveSite:
    switched = contents.switches.get(name) or Switched(name, enabled=True)
    return LiveSite(name, listed=name in known, enabled=switched.enabled)


def undone(contents: Contents, history: History, workspace: Workspace, found: Found) -> list[Undone]:
    """Return the newest rounds of running jobs whose model the disk has lost or changed: they must be repeated.

    A committed model is synced while the next round trains on it, and until then the sites
    keep their updates, and the previous model stays: a power cut costs at most one round, which is folded again from
    the same bits.
    """
    lost: list[Undone] = []
    newest = {record.job: record for record in sorted(contents.rounds, key=lambda record: record.round)}
    for job in [job.id for job in contents.jobs if job.state == "running"]:
        folder, record = workspace.job(job).blobs, newest.get(job)
        with found.job(job):
            while record is not None:
                lacks = [digest for digest in (record.model, record.state) if digest and not folder.verify(digest)]
                if not lacks:
                    break
                for digest in lacks:
                    folder.condemn(digest)
                lost.append(Undone(job, record.round))
                record = history.last_committed(job, below=record.round)
    return lost


def tidy(state: ReadOnlyState, history: History, workspace: Workspace, found: Found) -> None:
    """Remove what nobody needs: what a killed server had not yet released, had half written or half taken."""
    there = {path.name: path for path in (workspace.folder / "jobs").iterdir()}
    known = history.known(there)
    for name in there.keys() - known:
        shutil.rmtree(there[name], ignore_errors=True)
    for name in known - state.jobs.keys():
        workspace.job(name).sweep_again()
    for job in state.jobs.values():
        if job.record.state == "running":
            with found.job(job.record.id):
                _tidy(job, workspace.job(job.record.id).blobs)


def _tidy(job: ReadOnlyJob, folder: BlobFolder) -> None:
    folder.folder.mkdir(parents=True, exist_ok=True)
    if job.last is not None:  # before the model from which it was made is removed, and one that was best before
        best = job.best.model if job.best is not None and folder.has(job.best.model) else ""
        for digest in filter(None, (job.last.model, job.last.state, best)):
            sync_file(folder.path(digest))
    folder.recover(holders.needed(job), lambda holder, _: holders.stays(job, holder))


def lost_updates(state: ReadOnlyState, workspace: Workspace, found: Found) -> list[events.Lost]:
    """Return the updates that the ledger counts and the disk has lost or changed; reads every byte of them."""
    lost: list[events.Lost] = []
    for job in state.jobs.values():
        folder = workspace.job(job.record.id).blobs
        with found.job(job.record.id):
            for question in job.questions.values():
                for task in question.tasks.values():
                    digest = task.answer.digest if task.state == "received" and task.answer is not None else ""
                    if digest and not folder.verify(digest):
                        folder.condemn(digest)
                        lost.append(events.Lost(job.record.id, question.record.id, task.site))
    return lost
