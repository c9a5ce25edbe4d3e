"""One job at a site: bundle checked, trainer run, tasks answered, answers offered until they count."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from convoy import errors
from convoy.control.costs import NOTHING
from convoy.control.records import Answer, Question
from convoy.errors import ConvoyError, NotAllowed, Refused, StorageFull
from convoy.site import admission, artifacts, bundles, export, release, states
from convoy.site.context import Site
from convoy.site.intake import MODEL, Intake, in_thread
from convoy.site.launch import order_of
from convoy.site.logs import JobLog
from convoy.site.meters import Stopwatch
from convoy.site.offers import Offers
from convoy.site.outbox import Kept, Outbox
from convoy.site.points import JobPoints
from convoy.site.quarantine import MAX_FAULTS
from convoy.site.record import Flows, Record, described
from convoy.site.release import Handed
from convoy.site.task import SiteTask
from convoy.site.trainer import GRACE_S, Trainer
from convoy.spec.filters import Filter
from convoy.spec.printable import one_line
from convoy.store import spares
from convoy.store.blobs import BlobFolder
from convoy.store.holds import Hold
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values

ANSWERED: Final = "this site has answered under this id before, to another question: it does not answer it anew"
MEANWHILE: Final = "the job ended while this site was not connected"
TASK: Final = "task."  # and a question: the holder of the model that the task is about


@dataclass(slots=True)
class SiteJob:
    """One job; lives in a task group of its own, which ends with it."""

    site: Site
    id: str
    start: pb.Start | None  # None: found on the disk, from before a restart
    tasks: asyncio.Queue[SiteTask] = field(default_factory=asyncio.Queue)
    _known: dict[str, SiteTask] = field(default_factory=dict)  # queued or running, by question
    _current: str = ""
    _working: asyncio.Task[None] | None = None
    _trainer: Trainer | None = None
    _intake: Intake = field(init=False)
    blobs: BlobFolder = field(init=False)
    offers: Offers = field(init=False)
    _ready: bool = False
    _waits: str = ""  # what its worker waits for, before it runs
    _finish_s: float = GRACE_S  # for what a trainer does after its last task
    _files: frozenset[str] | None = None  # of its bundle; None: it was not admitted by this process
    _own: bool = False  # it brings no code: Convoy's own trainer answers
    _most_state: float = 0.0  # bytes that its trainer may keep
    _refusal: str = ""  # why the job cannot run here
    _outbox: Outbox = field(init=False)
    _log: JobLog = field(init=False)
    _points: JobPoints = field(init=False)
    record: Record = field(init=False)
    _applied: list[Filter] = field(default_factory=list)  # filters that the newest answer passed
    _why: str = ""  # the job ends
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Open the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.blobs = BlobFolder(self.folder / "blobs")
        self.blobs.folder.mkdir(exist_ok=True)
        self._outbox = Outbox(self.folder / "outbox")
        self.blobs.recover((_held(answer) for answer in self._outbox.answers.values() if answer.digest), _comes_again)
        self._intake = Intake(self.id, self.folder, self.blobs, self.site.line, self._stop)
        self.offers = Offers(
            job=self.id,
            line=self.site.line,
            blobs=self.blobs,
            outbox=self._outbox,
            release=self.site.release,
            measured=partial(self.site.phases.measured, "push", self.id, site=self.site.kit.name),
            stop=self._stop,
            log=self.site.log,
            start=partial(self.site.supervisor.start, self.id),
        )
        begun, leave = self.start or pb.Start(), self.site.release.leave
        self._log = JobLog(self.id, self.site.kit.name, self.folder, self.site.line, begun.log_offset)
        self._points = JobPoints(self.id, self.site.line, leave, self._say, self.folder / "points.jsonl", begun.points)
        self.record = Record(self.id, self.folder, self.site.history, self._flows)
        self._points.left, self._points.held_back = self.record.tally.live, self.record.tally.live_stayed

    @property
    def folder(self) -> Path:
        """The job's folder at this site."""
        return self.site.folder / "jobs" / self.id

    @property
    def _out(self) -> Path:
        """The folder that the trainer writes its blobs into."""
        return self.folder / "out"

    @property
    def refused(self) -> bool:
        """Whether the site has said that the job cannot run here."""
        return bool(self._refusal)

    # ---- its life --------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Run until `stop`, then remove every file; cancelled (a drain), keep them for when the site is back."""
        with self.site.supervisor.over(self.id):
            await self._live()
        await self._stop.wait()  # also after it has failed here
        await self._points.close()
        await self._log.close()  # a trainer may have said something on its way out
        self.record.ended(self._why)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
        self.site.line.send(pb.Up(stopped=pb.JobStopped(job=self.id)))

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._working = work = group.create_task(self._work(group))
            pumps = [group.create_task(part.pump()) for part in (self._log, self._points)]
            await self._stop.wait()
            for task in (work, *pumps):
                task.cancel()
            if self._trainer is not None:
                await self._finish(self._trainer)
            await self._keep_artifacts()  # also those that an earlier process of this site has left
            if self._trainer is not None:
                sent = await export.send(self.id, self.folder, self.site.release, self.site.line, self._say)
                self.record.sent_files(*sent)

    async def _finish(self, trainer: Trainer) -> None:
        """End the trainer: of a completed job, what comes after its loop of tasks has the job's patience."""
        ended = await trainer.stop(self._finish_s)
        if ended and self._finish_s > GRACE_S:
            self._say(f"the trainer {ended}")

    async def _keep_artifacts(self) -> None:
        home, most = self.site.folder / artifacts.FOLDER, self.site.settings.artifacts
        try:
            left = await asyncio.to_thread(artifacts.keep, self.folder / "code", home, self.id, self._files, most)
        except OSError as problem:  # a full disk, or a name that this file system does not take
            self._say(f"the artifacts are not kept: {problem}")
            return
        for line in left.lines(self.site.kit.name, home / self.id):
            self._say(line)

    def _say(self, line: str) -> None:
        self._log.print(f"convoy: {line}\n".encode())

    def _flows(self) -> Flows:
        return Flows(self._points.left, self._points.held_back, self._log.sent)

    def stop(self, finish_s: float = 0.0, why: str = "") -> None:
        """End the job here and remove its files; a trainer that has no task may work on for `finish_s`, once."""
        self._why = self._why or why
        if self._stop.is_set() and self._trainer is not None:
            self._trainer.hurry()
        self._finish_s = max(finish_s, self._finish_s)
        self._stop.set()

    def fail(self, error: str) -> None:
        """End the job here because of an error of the site itself: the server hears of what kind, the log says more."""
        self.site.quarantine.add(self.id)
        if self._refusal:
            return
        kind = error.partition(":")[0]
        self._give_up(f"{self.site.kit.name} failed at this job ({kind}): its owner finds more in the site's log")
        if self._working is not None:
            self._working.cancel()
        if self._trainer is not None:
            self.site.supervisor.start(self.id, self._trainer.stop())

    async def drain(self) -> None:
        """End the trainer and keep every file, for when the site is back."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})
        if self._trainer is not None:
            await self._trainer.stop()

    async def _work(self, group: asyncio.TaskGroup) -> None:
        try:
            if self.site.quarantine.holds(self.id):
                fix = f"its owner removes it from {self.site.quarantine.file.name} in the site's working folder"
                raise Refused(
                    f"the job is quarantined: {self.site.kit.name} has failed at it {MAX_FAULTS} times", fix=fix
                )
            await self._prepare(group)
            while True:
                if (task := await self.tasks.get()).question.id in self._known:  # else it was cancelled meanwhile
                    await self._turn(task)
        except (ConvoyError, OSError) as problem:  # the job cannot go on here: the others, and the other jobs, can
            self._give_up(errors.line(problem))
            if self._trainer is not None:
                await self._trainer.stop()

    def _give_up(self, reason: str) -> None:
        self._refusal = reason
        self.site.log.warning("job refused", job=self.id, reason=reason)
        self.record.refused(reason)
        self._refuse()

    def _refuse(self) -> None:
        self.site.line.send(pb.Up(refused=pb.JobRefused(job=self.id, reason=self._refusal)))

    async def _turn(self, task: SiteTask) -> None:
        id_ = self._current = task.question.id
        answer = await self.site.meters.during(self._answer(task))
        self._current = ""
        latest, kept = self._known.pop(id_, None), Answer(id_)
        if latest is not None and answer is not None:
            self._outbox.put(answer, task.question)
            self.offers.offer(answer)
            kept = answer.answer
        mine, models = release.holder(id_), f"{TASK}{id_}"
        stays = {(mine, kept.digest), states.hold(kept)}
        owners = (mine, models, states.hold(kept)[0])
        await self._let_go(one for one in self.blobs.holds() if one[0] in owners and one not in stays)
        if answer is None and latest is not None and latest is not task:
            self.give(latest)  # the server asked once more before we heard that it had forgotten

    async def _let_go(self, holds: Iterable[Hold]) -> None:
        if self._stop.is_set():  # every file of the job is being removed
            return
        if away := self.blobs.let_go(holds):
            await asyncio.to_thread(self.blobs.spares.give, away)

    async def _prepare(self, group: asyncio.TaskGroup) -> None:
        data = await self._intake.bundle(self.start)
        reserve = self.site.settings.disk_reserve
        if (free := spares.free(self.folder.parent, reserve)) < reserve:
            raise StorageFull("the site's disk is full", why=f"{free >> 20} MiB free, {reserve >> 20} MiB in reserve")
        pods, missing = self.site.settings.pods is not None, self.site.launcher.isolation.missing
        admitted = await in_thread(
            partial(admission.admit, makes_pods=pods, missing=missing),
            data,
            self.id,
            self.folder,
            self.site.kit,
            self.site.release.rules,
        )
        spec, self._files, self._most_state = admitted.spec, admitted.files, admitted.most_state
        self._log.open(leaves=admitted.leave.logs)
        self._points.open()
        for part, why in missing.items():
            self._log.print(f"convoy: this job is not isolated from {part} at {self.site.kit.name}: {why}\n".encode())
        self._own, kept = not spec.trainer, self.site.release.withheld(spec, self.site.settings.data)
        bundles.keep(self.folder / "bundle", self.site.folder, admitted.digest)
        self.record.begun(admitted, self.site.settings.data, kept)
        self._trainer = Trainer(
            order=order_of(
                spec, self.id, site=self.site.kit.name, folder=self.folder, settings=self.site.settings, withheld=kept
            ),
            launcher=self.site.launcher,
            group=group,
            output=self._log.print,
            waits=self._say_waits,
            ready=self._say_ready,
            points=self._points.take,
            alive=lambda: self.site.line.send(pb.Up(progress=pb.Progress(job=self.id))),
            pulse_s=spec.patience_s / 4,
        )
        await self._trainer.start()

    # ---- tasks -----------------------------------------------------------------------------------------------
    def give(self, task: SiteTask) -> None:
        """Take a task from the server; one that is known goes on, one that is answered is offered again."""
        id_ = task.question.id
        if not self._outbox.may_answer(task.question):
            self.site.log.warning("task refused: it was answered as another question", job=self.id, question=id_)
            self.site.line.send(pb.Up(failed=pb.TaskFailed(job=self.id, question=id_, error=ANSWERED)))
            return
        if id_ in self._outbox.answers:
            return  # what is answered was offered when the line opened
        if id_ not in self._known:
            self.tasks.put_nowait(task)
        self._known[id_] = task

    async def _answer(self, task: SiteTask) -> Kept | None:
        """Return the answer; None if the server does not know any more that it asked (it was killed just then)."""
        assert self._trainer is not None  # noqa: S101 - `_prepare` made it
        question = task.question
        self._points.round = question.round
        watch = Stopwatch(self.site.meters, self.site.phases.of(question, self.site.kit.name))
        try:
            with watch.phase("pull_s"):
                await self._intake.model(f"{TASK}{question.id}", task.model)
        except NotAllowed as problem:
            self.site.log.warning(
                "task forgotten by the server", job=self.id, question=question.id, reason=str(problem)
            )
            return None
        except ConvoyError as problem:
            return self._kept(question, error=errors.line(problem))
        if question.id not in self._known:  # it was cancelled while the model came
            return None
        try:
            state, most = states.of(self.blobs, task.after), self._room()
            told = pb.Task(job=self.id, question=values.to_site(question), state=state, state_bytes=most)
            if self._own:
                told.tables_json = self.site.release.tables(self.site.settings.data)
            with watch.phase("train_s"):
                up = await self._trainer.train(told)
            if up.WhichOneof("it") == "failed":
                self.record.stayed(question.id, up.failed.error)
                error, traceback = self.site.release.told(up.failed)
                return self._kept(question, error=error, traceback=traceback)
            with watch.phase("release_s"):
                self._applied.clear()
                handed = Handed(self.blobs, self._out, up, own=self._own, applied=self._applied.extend)
                answer = await self.site.release.judged(handed, question)
                leaves = self.site.release.leave().resources_leave
        except ConvoyError as problem:
            reason = errors.line(problem)
            self.site.log.warning("no answer", job=self.id, question=question.id, reason=reason)
            self._log.print(f"convoy: there is no answer to task {question.id}: {reason}\n".encode())
            self.record.stayed(question.id, reason)
            return self._kept(question, error=self.site.release.why(problem))
        cost = watch.cost(answer.cost)
        size = self.blobs.read_header(answer.digest).size if answer.digest else 0
        self.record.answered(answer, question, size, map(described, self._applied), cost)
        return self._kept(question, answer._replace(cost=cost if leaves else NOTHING))

    def _kept(self, question: Question, answer: Answer | None = None, *, error: str = "", traceback: str = "") -> Kept:
        return Kept(answer or Answer(question.id), question.round, question.outlives, error, traceback)

    def _room(self) -> int:
        """Return the most bytes that a trainer may keep here from task to task."""
        return int(min(self._most_state, max(shutil.disk_usage(self.folder).free - self.site.settings.disk_reserve, 0)))

    async def cancel(self, question: str) -> None:
        """Nobody waits for this task any more."""
        self._known.pop(question, None)
        if self._current == question and self._trainer is not None:
            await self._trainer.cancel()

    # ---- answers ---------------------------------------------------------------------------------------------
    async def rejected(self, question: str, reason: str) -> None:
        """The server will never count this answer."""
        answer = self._outbox.drop(question)
        if answer is not None and not answer.error:
            self.record.rejected(question, reason)
            self.site.log.warning("update refused", job=self.id, question=question, reason=reason)
            self._log.print(f"convoy: the server refused the update of task {question}: {one_line(reason)}\n".encode())
        if answer is not None:
            await self._let_go(hold for hold in (_held(answer), states.hold(answer.answer)) if hold[1])

    async def committed(self, said: pb.Committed) -> None:
        """Forget what the federation has for good; keep the newest model, whose tensors may not travel again.

        Of what the trainer has kept here with its answers, that of the last one that counts stays.
        """
        forgotten = self._outbox.committed(said.round, frozenset(said.folded))
        gone = [_held(answer) for answer in forgotten if answer.digest]
        for holder, digest in self.blobs.holds():
            older = holder == MODEL and self._intake.newest not in ("", digest)
            if older or (holder.startswith(TASK) and holder.removeprefix(TASK) not in self._known):
                gone.append((holder, digest))
        open_ = {*self._outbox.answers, self._current, said.after}  # what is answered may still count
        open_ |= {task.after for task in self._known.values()}  # and these are to go on from there
        await self._let_go([*gone, *states.past(self.blobs, open_)])

    # ---- the line is open again ------------------------------------------------------------------------------
    def resumed(self, held: pb.Held) -> None:
        """Say again what the server may not have heard."""
        self._log.resumed(held.log_offset)
        self._points.resumed(held.points)
        if self._refusal:
            self._refuse()
        elif self._ready:
            self._say_ready()
        if self._waits:
            self._say_waits(self._waits)
        self.offers.all_again()

    def _say_waits(self, why: str) -> None:
        self._waits = why
        self.site.line.send(pb.Up(waits=pb.JobWaits(job=self.id, why=why)))

    def _say_ready(self) -> None:
        self._ready = True
        self.site.line.send(pb.Up(ready=pb.JobReady(job=self.id)))


def _held(answer: Kept) -> Hold:
    return release.holder(answer.question), answer.digest


def _comes_again(holder: str, _: str) -> bool:
    """Whether a hold outlives the process: what came of a model is gone on with when its task comes again."""
    return holder == MODEL or holder.startswith((TASK, states.HOLDER))
