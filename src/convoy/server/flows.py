"""Workflow workers on the server: one process for each running job, with its start, messages and end."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from convoy.control import cohort, events, holders, rounds
from convoy.control.records import JobId, Spread, are_names
from convoy.control.view import ReadOnlyJob, ReadOnlyState
from convoy.errors import ConvoyError, RemoteFault, StorageFull, Unreachable
from convoy.model.blob import SMALL, Layout
from convoy.node.launcher import Launcher, Order, Wants, Worker
from convoy.node.lines import Stamper
from convoy.node.supervisor import Supervisor
from convoy.server.files import JobFiles, Workspace
from convoy.server.logs import JobLogs
from convoy.store import handover
from convoy.store.history import Past
from convoy.store.holds import Hold
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.wire.backoff import Backoff
from convoy.wire.budget import Budget, Rate
from convoy.worker import code

TRACEBACK: Final = 4096  # bytes from the end of a workflow's output that a failed job shows
WORKFLOW: Final = Rate(1000, 16 << 20, 4)  # 1,000 messages and 16 MiB a second of one workflow, 4 s of that at once
POINTS: Final = 512  # bytes of live metrics that cost as much as a message: about a dozen values
PAGE: Final = 1000  # committed rounds that a workflow gets at once; a page may end sooner because of its bytes
TAKEN: Final = "taken"  # the holder of a model that is being taken from its workflow
GRACE_S: Final = 2.0  # a workflow keeps nothing that is not committed: it has nothing to save


class ReadPast(Protocol):
    """How the committed rounds of a job are read, page by page; blocks."""

    def __call__(self, job: str, *, after: int, limit: int) -> list[Past]:
        """Return at most so many rounds after a number. Raises `Unreachable`."""
        ...


@dataclass(slots=True)
class Flows:
    """Every workflow process of this server."""

    state: ReadOnlyState
    workspace: Workspace
    launcher: Launcher
    supervisor: Supervisor
    post: Callable[[events.Event], None]
    logs: Callable[[str], JobLogs]
    env: Mapping[str, str]  # of the server's node.yaml, for workflows
    check_room: Callable[[], str]
    free: Callable[[], int]  # bytes of the disk that a model may take
    past: ReadPast
    _workers: dict[str, Worker] = field(default_factory=dict)
    _stopping: set[str] = field(default_factory=set)
    _restarting: set[str] = field(default_factory=set)
    _told: dict[str, int] = field(default_factory=dict)  # the last round that a workflow reports that it knows
    _closed: bool = False

    def run(self, job: str) -> None:
        """Start the job's workflow from its last committed round."""
        self._stopping.discard(job)
        self.supervisor.start(job, self._run(self.state.jobs[JobId(job)]))

    def stop(self, job: str) -> None:
        """End the job's workflow process."""
        self._stopping.add(job)
        worker = self._workers.get(job)
        if worker is not None:
            worker.send(pb.WorkerDown(bye=pb.Bye()))
            self.supervisor.start(job, worker.stop(GRACE_S))

    def restart(self, job: str) -> None:
        """End the job's workflow process at once, ignore its further messages, and start a new one."""
        worker = self._workers.get(job)
        if worker is not None and job not in self._stopping:
            self._restarting.add(job)
            self.supervisor.start(job, worker.stop(0))

    def stop_all(self) -> None:
        """End every workflow process, also those being started; their jobs continue when the server is back."""
        self._closed = True
        for job in list(self._workers):
            self.stop(job)

    def tell(self, job: str, message: pb.WorkerDown) -> None:
        """Send a message to the job's workflow, if it runs."""
        worker = self._workers.get(job)
        if worker is not None:
            worker.send(message)

    async def _run(self, job: ReadOnlyJob) -> None:
        key = job.record.id
        files, log, stamp = self.workspace.job(key), self.logs(key), Stamper(time.time)
        wants = Wants(patience_s=job.needs.patience_s)  # its pod is the server's choice: `resources` are the sites'
        order = Order("convoy.worker.flow", _begin(job, files), files.code, self.env, wants)

        printed = bytearray()

        def output(data: bytes) -> None:
            log.own().append(stamp.lines(data))
            log.wake()
            printed[:] = (printed + data)[-TRACEBACK:]

        try:
            handover.empty(files.out)
            worker = await self.launcher.launch(order, output, lambda why: self.post(events.FlowWaits(key, why)))
        except OSError as problem:  # its folder is missing, or the machine cannot start one more process
            self.post(events.FlowDied(key, f"it could not be started: {problem}"))
            return
        if key in self._stopping or self._closed:
            self._stopping.add(key)
            self.supervisor.start(key, worker.stop(GRACE_S))
        self._workers[key] = worker
        self._told.pop(key, None)
        ended = self.supervisor.start(key, worker.ended())
        said = await self._hear(job, worker)
        await asyncio.wait({ended}, timeout=GRACE_S)
        if not ended.done():  # it closed its connection but still runs
            await worker.stop(GRACE_S)
        how = await ended
        log.own().append(stamp.flush())
        log.own().close(stamp.now())
        log.wake()
        if self._workers.get(key) is worker:
            del self._workers[key]
        again = key in self._restarting and key not in self._stopping and not self._closed
        self._restarting.discard(key)
        if again:
            self.run(key)
        elif not said and key not in self._stopping:
            self.post(
                events.FlowDied(
                    key,
                    code.told(how or "") or "it ended without a message",
                    code.told(printed.decode(errors="replace"), TRACEBACK),
                )
            )

    async def _hear(self, job: ReadOnlyJob, worker: Worker) -> bool:
        """Handle what a workflow says until it hangs up; return whether it came to its end."""
        said, budget = False, Budget(WORKFLOW)
        try:
            with self.supervisor.over(job.record.id, own=(ConvoyError,)):
                while (up := await worker.receive()) is not None:
                    more = up.ByteSize() / POINTS if up.HasField("points") else 0.0
                    await budget.spend(up.ByteSize(), frames=1 + more)
                    said = await self._said(job, worker, up) or said
        except StorageFull as full:
            self.check_room()
            self.post(events.FlowDied(job.record.id, full.what, full.why, full=True))
            return True
        except ConvoyError as problem:  # caused by one job's code: that job ends, and the server continues
            self.post(events.FlowFailed(job.record.id, code.told(problem.what), code.told(problem.why)))
            return True
        return said

    async def _said(self, job: ReadOnlyJob, worker: Worker, up: pb.WorkerUp) -> bool:
        """Handle one message; return whether it was the workflow's last word."""
        key = job.record.id
        if key in self._restarting:
            return False
        match up.WhichOneof("it"):
            case "ask":
                question = values.question(up.ask, key)
                await self._take(key, [(holders.asked(question.id), question.model)], events.Asked(question), up.wholes)
            case "commit":
                await self._take(key, *_committed(key, up.commit), up.wholes)
            case "history":
                worker.send(pb.WorkerDown(history=await self._history(job, up.history.after)))
            case "points":
                self.logs(key).points.own(up.points, job.committed + 1)
            case "sites":
                names = cohort.eligible(self.state, job, ())
                worker.send(pb.WorkerDown(sites=pb.SitesList(sites=names)))
            case "done":
                self.post(events.FlowDone(key))
                return True
            case "failure":
                self._failed(key, up.failure)
                return True
            case "ready":
                return False
            case other:
                raise RemoteFault(f"a workflow sent {other!r}, which is not a message of workflows")
        return False

    async def _history(self, job: ReadOnlyJob, after: int) -> pb.History:
        """Return the next page of a workflow's committed rounds; a ledger that is away for a while is waited for."""
        key, backoff, never = job.record.id, Backoff(), asyncio.Event()
        if not self._told.get(key, -2) < after <= job.committed:  # each page once: all of them are a whole history
            raise RemoteFault(f"the workflow asks for the rounds after {after} out of their order")
        self._told[key] = after
        while True:
            try:
                found = await asyncio.to_thread(self.past, key, after=after, limit=PAGE)
            except Unreachable:
                await backoff.wait(never)
            else:
                return pb.History(
                    rounds=[pb.PastRound(round=one.round, metrics=one.metrics, best=one.best) for one in found]
                )

    def _failed(self, job: JobId, failure: pb.Failure) -> None:
        error, traceback = code.told(failure.error), code.told(failure.traceback, code.TRACEBACK)
        if failure.full:
            self.check_room()
            self.post(events.FlowDied(job, error, traceback, full=True))
        else:
            self.post(events.FlowFailed(job, error, traceback))

    async def _take(
        self, job: JobId, holds: list[Hold], said: events.Asked | events.CommitAsked, wholes: Mapping[str, bytes]
    ) -> None:
        """Copy the blobs that a workflow's message names, then pass the message to the state machine."""
        files, large = self.workspace.job(job), []
        for holder, digest in holds:
            whole = wholes.get(digest, b"")
            if whole or handover.size(files.out, digest) < SMALL:  # most questions name no blobs that need a thread
                files.blobs.take(holder, files.out, digest, _is_small, whole)
                continue
            fits = handover.room(self.free())
            await asyncio.to_thread(files.blobs.take, TAKEN, files.out, digest, fits)
            large.append((holder, digest))
        if job not in self._restarting:  # the workflow was ended in the meantime: ignore its message
            for holder, digest in large:
                files.blobs.hold(holder, digest)
            self.post(said)
        if large and (away := files.blobs.let_go([(TAKEN, digest) for _, digest in large])):
            await asyncio.to_thread(files.blobs.spares.give, away)


def _is_small(layout: Layout, _: int) -> None:
    if layout.size > SMALL:
        raise RemoteFault("the workflow's model changed its size while it was taken")


def _committed(job: JobId, commit: pb.Commit) -> tuple[list[Hold], events.CommitAsked]:
    if commit.round > values.MAX_NUMBER:
        raise RemoteFault(f"the workflow commits round {commit.round}", why=f"the limit is {values.MAX_NUMBER}")
    if not all(are_names(job, question) for question in commit.folded):
        raise RemoteFault("the workflow commits the answer to a question with an invalid id")
    metrics = {name: value for name, value in sorted(commit.metrics.items()) if math.isfinite(value)}
    left_out = {site: code.told(why) for site, why in commit.left_out.items()}  # of sites that did answer
    holds = [(holders.model(commit.round), commit.model)]
    if commit.state:
        holds.append((holders.state(commit.round), commit.state))
    spread = {
        site: Spread(it.norm, it.cosine)
        for site, it in sorted(commit.spread.items())
        if math.isfinite(it.norm) and abs(it.cosine) <= 1
    }
    said = events.CommitAsked(
        job, commit.round, commit.model, metrics, commit.best, left_out, commit.state, tuple(commit.folded), spread
    )
    return holds, said


def _begin(job: ReadOnlyJob, files: JobFiles) -> pb.WorkerDown:
    from convoy.spec.job import Job as JobSpec  # comes after the start: see `FOR_JOBS` in server/app.py

    spec = JobSpec.from_json(job.record.spec)
    return pb.WorkerDown(
        flow=pb.BeginFlow(
            job=job.record.id,
            name=job.record.name,
            code=str(files.code),
            blobs=str(files.blobs.folder),
            out=str(files.out),
            workflow=spec.workflow,
            with_json=json.dumps(spec.with_),
            config_json=json.dumps(spec.config),
            model=spec.model or "",
            committed=job.committed,
            committed_model="" if job.last is None else job.last.model,
            committed_state="" if job.last is None else job.last.state,
            waiting=map(values.question_to, rounds.waiting(job)),
        )
    )
