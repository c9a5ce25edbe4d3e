"""The job's trainer process at a site: starts it, gives it tasks, reads its answers, restarts it if it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from convoy import errors
from convoy.errors import JobFailed, Refused, RemoteFault
from convoy.node.launcher import Launcher, Order, Worker
from convoy.store import handover
from convoy.wire import convoy_pb2 as pb
from convoy.wire.budget import Budget, Rate

MAX_TRIES: Final = 3  # times that the trainer may die in one task
GRACE_S: Final = 2.0  # between SIGTERM and SIGKILL
TRAINER: Final = Rate(1000, 64 << 20, 4)  # 1,000 messages and 64 MiB a second of one trainer, 4 s of that at once
POINTS: Final = 512  # bytes of live metrics that cost as much as a message: about a dozen values
IN_A_TASK: Final = "was ended during a task whose answer is not needed any more"
AFTER_ITS_TASKS: Final = "worked on after its last task until the job's patience or an abort ended it"


@dataclass(slots=True)
class Trainer:
    """One job's trainer; tasks go in one at a time."""

    order: Order
    launcher: Launcher
    group: asyncio.TaskGroup
    output: Callable[[bytes], None]
    waits: Callable[[str], None]  # called with why it does not run yet, finally with ""
    ready: Callable[[], None]  # its code is loaded
    points: Callable[[pb.Points], None]  # called with its live metrics
    alive: Callable[[], None]  # it was started, or has used the CPU since the last check
    pulse_s: float  # how often to check for progress
    _worker: Worker | None = None
    _reply: asyncio.Future[pb.WorkerUp | str] | None = None
    _question: str = ""  # of the task that it has, or had last
    _listening: asyncio.Task[None] | None = None
    _over: bool = False
    _broken: pb.Failure | None = None
    _launching: asyncio.Lock = field(default_factory=asyncio.Lock)
    _is_ready: bool = False  # it is ready: before that it gets no task, so that no task must be taken back
    _given: pb.Task | None = None  # once it is ready
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> Worker:
        """Start the process unless it runs. Raises `Refused` after `stop`, `OSError`."""
        async with self._launching:
            if self._worker is None:
                if self._over:
                    raise Refused("the job has ended at this site")
                self._broken, self._is_ready = None, False
                handover.empty(Path(self.order.begin.trainer.out))  # from files that a dead one has left
                self._worker = await self.launcher.launch(self.order, self.output, self.waits)
                self._listening = self.group.create_task(self._listen(self._worker))
                self.alive()  # a first start loads what trainers need, and no process of the job's uses the CPU for it
            return self._worker

    async def train(self, task: pb.Task) -> pb.WorkerUp:
        """Give the trainer a task and return `answer` or `failed`. Raises `JobFailed` if it dies `MAX_TRIES` times."""
        how = ""
        for _ in range(MAX_TRIES):
            worker = await self.start()
            if self._broken is not None:
                return _failed(task, self._broken)
            self._reply, self._question = asyncio.get_running_loop().create_future(), task.question.id
            self._given = task
            self._give(worker)
            reply = await self._wait(worker, self._reply)
            self._reply = self._given = None
            if not isinstance(reply, str):
                return reply if reply.WhichOneof("it") != "failure" else _failed(task, reply.failure)
            how = reply
        raise JobFailed(
            f"the trainer died {MAX_TRIES} times at this task", why=how
        )  # this node's text, not the trainer's

    def _give(self, worker: Worker) -> None:
        if self._is_ready and self._given is not None:
            worker.send(pb.WorkerDown(task=self._given))
            self._given = None

    async def _wait(self, worker: Worker, reply: asyncio.Future[pb.WorkerUp | str]) -> pb.WorkerUp | str:
        used = -1.0  # most answers arrive before the first check, which walks over all processes
        while True:
            await asyncio.wait({reply}, timeout=self.pulse_s)
            if reply.done():
                return reply.result()
            used, before = worker.cpu_s(), used
            if used != before:  # less, when a child of it has ended
                self.alive()

    async def _listen(self, worker: Worker) -> None:
        ended = self.group.create_task(worker.ended())
        why, budget = "", Budget(TRAINER)
        try:
            while (up := await worker.receive()) is not None:
                if up.HasField("points"):  # also of a process that is being ended: what its code measures at its end
                    await budget.spend(up.ByteSize(), frames=1 + up.ByteSize() / POINTS)
                    self.points(up.points)
                    continue
                await budget.spend(up.ByteSize())
                if self._worker is worker:  # messages of a process that is being ended are ignored
                    self._heard(up)
            await asyncio.wait({ended}, timeout=GRACE_S)
        except RemoteFault as problem:
            why = errors.line(problem)
        if not ended.done():  # it closed its connection or sent an invalid message: end it
            await worker.stop(GRACE_S)
        how = await ended
        if self._worker is worker:
            self._worker = None
            self._say(why or how or "it ended in the middle of a task")

    def _heard(self, up: pb.WorkerUp) -> None:
        match up.WhichOneof("it"):
            case "ready":
                if self._is_ready:
                    raise RemoteFault("it sent `ready` twice")
                self._is_ready = True
                self.ready()
                if self._worker is not None:
                    self._give(self._worker)
            case "failure":
                if self._broken is not None:
                    raise RemoteFault("it sent `failure` twice")
                self._broken = up.failure
                self._say(up)
            case "answer" | "failed" as kind:
                if getattr(up, kind).question != self._question:
                    raise RemoteFault(f"it answered task {getattr(up, kind).question[:80]!r}, which it was not given")
                if self._reply is None or self._reply.done():
                    raise RemoteFault(f"it answered task {self._question[:80]!r} once more")
                self._say(up)
            case other:
                raise RemoteFault(f"it sent {other!r}, which is not a message of trainers")

    def _say(self, reply: pb.WorkerUp | str) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)

    async def cancel(self) -> None:
        """End the process because its task is not needed any more, and start a new one.

        A process that is not ready yet has not begun the task: it stays.
        """
        worker, self._given = self._worker, None
        if self._is_ready:
            self._worker = None
        self._say(pb.WorkerUp(failed=pb.TaskFailed(question=self._question, error="its answer is not needed any more")))
        if worker is not None and self._worker is None:
            await worker.stop(GRACE_S)
            with suppress(Refused, OSError):  # if it cannot be started, the next task reports it
                await self.start()

    async def stop(self, finish_s: float = GRACE_S) -> str:
        """End the process for good; one between two tasks gets `finish_s` for what comes after its loop of tasks.

        Returns how it was ended; nothing if it ended by itself.
        """
        self._over = True
        async with self._launching:
            worker, self._worker = self._worker, None
        if worker is None:
            return ""
        how = IN_A_TASK
        worker.send(pb.WorkerDown(bye=pb.Bye()))
        if self._reply is None and self._listening is not None:
            hurry = self.group.create_task(self._hurry.wait())
            await asyncio.wait({self._listening, hurry}, timeout=finish_s, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if self._listening.done():
                return ""
            how = AFTER_ITS_TASKS
        await worker.stop(GRACE_S)
        return how

    def hurry(self) -> None:
        """Kill a process that is being stopped."""
        self._hurry.set()


def _failed(task: pb.Task, failure: pb.Failure) -> pb.WorkerUp:
    return pb.WorkerUp(
        failed=pb.TaskFailed(job=task.job, question=task.question.id, error=failure.error, traceback=failure.traceback)
    )
