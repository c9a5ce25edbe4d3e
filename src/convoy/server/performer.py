"""Performs the effects of the state machine: messages to sites and workflows, files stored and removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from convoy.control import effects, events, holders
from convoy.control.records import JobId, Question, Round, SiteName, Task
from convoy.control.view import ReadOnlyState
from convoy.errors import ConvoyError, NotFound, StorageFull, Unreachable
from convoy.model import blob
from convoy.node.lines import Stamper
from convoy.node.supervisor import Supervisor
from convoy.server.artifacts import Artifacts
from convoy.server.auditor import Auditor
from convoy.server.files import JobFiles, Workspace, sync_file
from convoy.server.flows import Flows
from convoy.server.hub import Hub
from convoy.server.logs import JobLogs
from convoy.server.results import Results
from convoy.server.transfers import Transfers
from convoy.store.report import LAST, STATISTICS, models, write_resources, write_rounds, write_statistics
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.wire.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Performer:
    """Performs effects; never blocks."""

    state: ReadOnlyState
    workspace: Workspace
    hub: Hub
    transfers: Transfers
    artifacts: Artifacts
    flows: Flows
    results: Results
    supervisor: Supervisor
    post: Callable[[events.Event], None]
    logs_of: Callable[[str], JobLogs]
    forget_logs: Callable[[str], None]
    note: Any  # a structlog logger
    check_room: Callable[[], str]
    audit: Auditor
    every_round: Callable[[str], Iterator[Round]]  # of a job, out of the ledger; blocks
    unkept: set[JobId] = field(default_factory=set)  # whose results wait for room on the disk
    unsynced: dict[JobId, effects.SyncModel] = field(default_factory=dict)  # the newest of each job, while one syncs

    def __call__(self, effect: effects.Effect) -> None:
        """Perform one effect."""
        match effect:
            case effects.SendStart(site=site, job=job):
                self._start(site, job)
            case effects.SendTask(site=site, question=question, after=after):
                self._task(site, question, after)
            case effects.SendStop(site=site, job=job, reason=reason, finish_s=finish_s):
                self.hub.send(site, pb.Down(stop=pb.Stop(job=job, reason=reason, finish_s=finish_s)))
            case effects.SendReceipt(site=site, job=job, question=question, digest=digest):
                self.hub.send(site, pb.Down(receipt=pb.Receipt(job=job, question=question, digest=digest)))
            case effects.SendReject(site=site, job=job, question=question, reason=reason):
                self.hub.send(site, pb.Down(reject=pb.Reject(job=job, question=question, reason=reason)))
            case effects.SendCancel(site=site, job=job, question=question):
                self.hub.send(site, pb.Down(cancel=pb.Cancel(job=job, question=question)))
            case effects.SendCommitted(site=site, job=job, round=round_, folded=folded, after=after):
                said = pb.Committed(job=job, round=max(round_, 0), folded=folded, after=after)
                self.hub.send(site, pb.Down(committed=said))
            case effects.TellAnswer(task=task):
                self.flows.tell(task.job, pb.WorkerDown(answer=_told(task)))
            case effects.TellEnd(job=job, question=question, error=error):
                self.flows.tell(job, pb.WorkerDown(end=pb.AskEnd(question=question, error=error)))
            case effects.TellCommitted(job=job, round=round_):
                self.flows.tell(job, pb.WorkerDown(committed=pb.Committed(job=job, round=round_)))
            case _:
                self._files(effect)

    def _files(self, effect: effects.Effect) -> None:
        match effect:
            case effects.RunFlow(job=job):
                self.flows.run(job)
            case effects.RestartFlow(job=job):
                self.flows.restart(job)
            case effects.StopFlow(job=job):
                self.flows.stop(job)
            case effects.SyncModel():
                self._sync_soon(effect)
            case effects.Release(job=job_id):
                self._release(job_id)
            case effects.KeepResults(job=job):
                self.supervisor.start(job, self._keep(job))
            case effects.Sweep(job=job, models=models):
                self.logs_of(job).wake()
                self._go(job, asyncio.to_thread(self.workspace.job(job).sweep, models=models))
            case effects.Retire(job=job):
                self.forget_logs(job)
                self.transfers.moved.pop(job, None)
                self.post(events.Retired(job))
            case effects.Forget(job=job):
                self.forget_logs(job)
                self.transfers.moved.pop(job, None)
                self._go(job, asyncio.to_thread(self.workspace.job(job).remove))
            case effects.TakeUp():
                self._take_up()
            case effects.Conflict(site=site, job=job, question=question):
                said = "refused: a different body for a task that was answered before"
                self.note.warning(said, site=site, job=job, question=question)
                self.audit.note_some(f"site:{site}", "update", f"task:{job}/{question}", said)
            case effects.Note(level=level, text=text, job=job, site=site):
                about = {name: it for name, it in (("job", job), ("site", site)) if it}
                getattr(self.note, level)(text, **about)

    def _release(self, job: JobId) -> None:
        live = self.state.jobs.get(job)
        if live is None:
            return
        folder = self.workspace.job(job).blobs
        gone = [hold for hold in folder.holds() if not holders.passing(hold[0]) and not holders.stays(live, hold[0])]
        if gone and (away := folder.let_go(gone)):
            self._go(job, asyncio.to_thread(folder.spares.give, away))

    def _start(self, site: SiteName, job: JobId) -> None:
        record = self.state.jobs[job].record
        path = self.workspace.job(job).bundle
        try:
            path.stat()
            whole = path.read_bytes() if record.size < blob.SMALL else b""
            logs = self.logs_of(job)
            start = pb.Start(job=job, bundle=record.bundle, size=record.size, whole=whole, log_offset=logs.size(site))
            start.points = logs.points.next(site)
        except (ConvoyError, OSError) as problem:  # its sites would wait in vain
            self.supervisor.failed(job, problem)
            return
        self.hub.send(site, pb.Down(start=start))

    def _task(self, site: SiteName, question: Question, after: str) -> None:
        if site not in self.hub.lines:
            return
        try:
            model = self.transfers.reference(question.job, question.model, site)
        except NotFound:
            self.post(events.Unsent(question.job, question.id, site))
            return
        except OSError as problem:  # a workflow that makes it anew would not find it lost
            why = f"the server cannot read the model that it is about: {problem.strerror}"
            self.post(events.Unusable(question.job, question.id, site, why))
            return
        task = pb.Task(job=question.job, question=values.to_site(question), model=model, after=after)
        self.hub.send(site, pb.Down(task=task))
        self.transfers.found(question)

    def _go(self, job: str, work: Coroutine[Any, Any, None]) -> None:
        """Do something for a job in the background."""

        async def owned() -> None:
            try:
                await work
            except (ConvoyError, OSError) as problem:
                self.note.error("a background task of a job failed", job=job, problem=str(problem))

        self.supervisor.start(job, owned())

    def _sync_soon(self, effect: effects.SyncModel) -> None:
        begun, self.unsynced[effect.job] = effect.job in self.unsynced, effect
        if not begun:
            self._go(effect.job, self._sync(effect.job))

    async def _sync(self, job: JobId) -> None:
        """Sync models to the disk while sites train on them; until then they keep their updates.

        One at a time: where rounds are faster than the disk, the newest is next, and stands for those before it: it
        brings the best of them along.
        """
        blobs, done = self.workspace.job(job).blobs, None
        try:
            while (effect := self.unsynced[job]) is not done:
                done = effect
                try:
                    for digest in filter(None, (effect.model, effect.state, effect.best)):
                        await asyncio.to_thread(sync_file, blobs.path(digest))
                except FileNotFoundError:
                    continue  # the job has ended
                except OSError as problem:  # the next one is tried all the same: it stands for this one, too
                    self.note.error("a model is not on the disk for good", job=job, problem=str(problem))
                    continue
                self.post(events.ModelSynced(job, effect.round))
        finally:
            del self.unsynced[job]

    async def _keep(self, job: JobId, *, again: bool = True) -> None:
        problem, live = "", self.state.jobs.get(job)
        if live is None:
            return  # the handling of the job has failed in the meantime, and ended it
        await self.artifacts.settled(job, cut=live.record.outcome == "aborted")
        kept = self.workspace.job(job).kept
        kept.unlink(missing_ok=True)
        try:
            await self._write_rounds(job)
            await asyncio.to_thread(write_resources, live.spent, self.workspace.job(job).drafts)
            await asyncio.to_thread(self._write_statistics, self.workspace.job(job), models(live).get(LAST, ""))
            await self.results.keep(live, self.workspace.job(job), partial(self._say, job))
        except ConvoyError as failed:
            if isinstance(failed, StorageFull):
                if self.check_room():
                    self.unkept.add(job)
                    return
                if again:  # there is space again already
                    await self._keep(job, again=False)
                    return
            problem = f"its results were not kept: {failed.what}, {failed.why}"
        else:
            with suppress(OSError):  # without it, a server that is killed now leaves the models where they are
                kept.touch()
        self.post(events.ResultsKept(job, problem))

    async def _write_rounds(self, job: JobId) -> None:
        """Write what the ledger has of the job's rounds; wait while the database is not available."""
        files, backoff, never = self.workspace.job(job), Backoff(), asyncio.Event()
        while True:
            try:
                await asyncio.to_thread(lambda: write_rounds(self.every_round(job), files.drafts))
            except Unreachable as problem:
                self.note.warning("the results of a job wait for the ledger", job=job, reason=problem.what)
                await backoff.wait(never)
            else:
                return

    def _write_statistics(self, files: JobFiles, model: str) -> None:
        if model and any(it.name == STATISTICS for it in files.blobs.read_header(model).ordered):
            from convoy.store import arrays  # with numpy

            write_statistics(arrays.load(files.blobs, model), files.drafts)

    def _say(self, job: JobId, text: str) -> None:
        """Write a line into the server's log and into the job's."""
        self.note.warning(text, job=job)
        self.logs_of(job).own().append(Stamper(time.time).lines(f"convoy: {text}\n".encode()))

    def _take_up(self) -> None:
        """The disk has room again: take up what waited for it."""
        self.transfers.room()
        for job in list(self.unkept):
            self.unkept.discard(job)
            self.supervisor.start(job, self._keep(job))
        self.hub.catch_up()


def _told(task: Task) -> pb.SiteAnswer:
    if task.answer is None or task.state != "received":
        return pb.SiteAnswer(
            site=task.site, answer=pb.Answer(question=task.question), left_out=task.reason or "left out"
        )
    return pb.SiteAnswer(site=task.site, answer=values.to_workflow(task.answer))
