"""A worker in a pod of its own, from its node's side: makes the pod, serves its connection, and removes it."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog

from convoy import errors
from convoy.errors import ConvoyError, RemoteFault, Unreachable
from convoy.model.blob import EMPTY, MAX_HEADER
from convoy.node.launcher import Order
from convoy.pods.api import Api, Object
from convoy.pods.artifacts import Arriving
from convoy.pods.link import PodLink, named
from convoy.pods.objects import owner
from convoy.pods.trouble import end_of, of_pod
from convoy.store.blobs import HANDED, BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import pods_pb2
from convoy.wire.backoff import Backoff
from convoy.wire.budget import Budget, Rate
from convoy.wire.stream import PING_S, Stream

CREDENTIAL_S: Final = 3600.0  # for a pod to get a machine, pull its image and connect; after that it cannot
PIECE: Final = 1 << 20  # bytes of code in one message
ENDS: Final = re.compile(r"|exit code [0-9]{1,3}|killed by SIG[A-Z0-9]{2,10}")
POD: Final = Rate(1000, 64 << 20, 4)  # 1,000 messages and 64 MiB a second of one pod, 4 s of that at once
MAX_UPS: Final = 256  # messages of one worker that its node has not handled yet: a trainer has one task at a time
LAST_S: Final = 5.0  # after a connection broke, for the cluster to report why; and for a pod's last message


class PodWorker:
    """One worker; its launcher runs `live`, which leaves nothing in the cluster when it returns."""

    def __init__(
        self,
        api: Api,
        made: tuple[Object, Object],
        order: Order,
        *,
        output: Callable[[bytes], None],
        waits: Callable[[str], None],
        leaving: asyncio.Event,
        artifacts: int,
    ) -> None:
        """`made`: its Job and its Secret, not yet in the cluster; `leaving`: its node stops.

        `artifacts`: the most bytes that a trainer may leave in artifacts/.
        """
        self.name: str = made[0]["metadata"]["name"]
        self._api = api
        self._made = made
        self._output = output
        self._waits = waits
        told: Any = order.begin.flow if order.begin.WhichOneof("it") == "flow" else order.begin.trainer
        self._code, self._blobs = Path(told.code), BlobFolder(Path(told.blobs))
        self._words: asyncio.Queue[tuple[pods_pb2.PodDown, tuple[str, ...]] | None] = asyncio.Queue()
        launch = pods_pb2.Launch(module=order.module, env=dict(order.env), begin=order.begin)
        self._held: set[str] = set()  # blobs that the pod has
        self._blobs.release(HANDED, *self._blobs.held(HANDED))  # by a worker that was lost with its messages
        self._say(pods_pb2.PodDown(launch=launch), named(order.begin))
        self._ups: asyncio.Queue[pb.WorkerUp | RemoteFault | None] = asyncio.Queue()
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        trains = order.begin.WhichOneof("it") == "trainer"
        self._artifacts = Arriving(self._code, artifacts) if trains else None
        self._come = False
        self._moved = asyncio.Event()  # its pod has connected, or it has ended
        self.seen = False  # its pod has existed
        self._leaving = leaving
        self._link: PodLink[pods_pb2.PodUp, pods_pb2.PodDown] | None = None
        self._cpu_s = 0.0
        self._most = math.inf  # bytes of a blob that may come
        self._trouble = ""
        self._expires = time.time() + CREDENTIAL_S

    # ---- as its node sees it ---------------------------------------------------------------------------------
    async def receive(self) -> pb.WorkerUp | None:
        """Return its next message, or None once it has ended. Raises `RemoteFault` for an invalid message."""
        up = await self._ups.get()
        if isinstance(up, RemoteFault):
            raise up
        return up

    def send(self, *messages: pb.WorkerDown) -> None:
        """Send it messages, each after the blobs that it names, and tell it which blobs this node has dropped."""
        for message in messages:
            self._send(message)

    def _send(self, message: pb.WorkerDown) -> None:
        if gone := {one for one in self._held if not self._blobs.has(one)}:
            self._held.difference_update(gone)
            self._say(pods_pb2.PodDown(forget=pods_pb2.Forget(digests=sorted(gone))))
        if message.WhichOneof("it") == "task":
            self._most = self._bound(message.task)
        self._say(pods_pb2.PodDown(word=message), named(message))

    def _bound(self, task: pb.Task) -> int:
        """Return the largest size in bytes of a blob in an answer, or of its state."""
        asked, model = task.question, 0
        if self._blobs.has(asked.model or EMPTY):
            model = self._blobs.read_header(asked.model).size
        return max(model, asked.reply_bytes, task.state_bytes) + MAX_HEADER

    def _say(self, down: pods_pb2.PodDown, names: tuple[str, ...] = ()) -> None:
        """Send a message to the pod, after those of its blobs that the pod does not have yet."""
        lacks = tuple(digest for digest in names if digest and digest not in self._held)
        self._held.update(lacks)
        self._words.put_nowait((down, lacks))

    async def ended(self) -> str:
        """Wait for its end; return "" for exit code 0, else a description of how it ended."""
        return await asyncio.shield(self._over)

    def cpu_s(self) -> float:
        """Return the CPU seconds that its pod last reported; received bytes count as progress, too."""
        return self._cpu_s + (0.0 if self._link is None else self._link.moved * 1e-9)

    async def stop(self, grace_s: float) -> None:
        """End it and its children: SIGTERM, then SIGKILL after `grace_s`; its pod is removed."""
        if self._link is not None:
            self._say(pods_pb2.PodDown(end=pods_pb2.End(grace_s=grace_s)))
            await asyncio.wait({self._over}, timeout=grace_s + LAST_S)
        self._end("")

    # ---- as its launcher sees it -----------------------------------------------------------------------------
    async def live(self) -> None:
        """Make the pod, wait for its end, and remove it."""
        try:
            await self._try(self._create)
            self.pod(None)
            try:
                async with asyncio.timeout(CREDENTIAL_S):
                    await self._moved.wait()
            except TimeoutError:
                self._end(f"its pod did not connect within {CREDENTIAL_S / 60:.0f} min: {self._trouble}")
            await asyncio.shield(self._over)
        except (ConvoyError, KeyError) as problem:
            self._end(errors.line(problem))
        except Exception as problem:  # noqa: BLE001 - the supervisor of one worker: it must not end its node
            structlog.get_logger().error(
                "a worker in a pod failed because of an error in its node", pod=self.name, exc_info=problem
            )
            self._end(f"its node failed at it: {type(problem).__name__}")
        finally:
            self._end("its node stops")
            await self._removed()

    async def _removed(self) -> None:
        try:
            await self._try(self._remove)
        except ConvoyError as problem:  # it belongs to the node's own pod, and is removed with that at the latest
            structlog.get_logger().warning("a job's pod is not removed", job=self.name, reason=errors.line(problem))

    def expected(self) -> bool:
        """Whether its pod may connect: once, and in time."""
        return not self._come and not self._over.done() and time.time() < self._expires

    def pod(self, it: Object | None) -> None:
        """Receive the state of its pod."""
        self.seen = self.seen or it is not None
        how = "" if it is None else end_of(it, called=self._come)
        if how:
            self._end(how)
        elif it is not None and it.get("status", {}).get("phase") == "Succeeded" and not self._come:
            self._end("its pod ended and never connected: is its image built from Convoy's?")
        elif not self._come:
            self._said(self._waiting(it))

    def _waiting(self, it: Object | None) -> str:
        if it is not None:
            return of_pod(it) or "its pod runs, but has not connected yet"
        return self._trouble if self.seen else f"its pod is not made yet (kubectl describe job {self.name})"

    def gone(self) -> None:
        """Its pod does not exist any more."""
        self._end("its pod was taken away")

    async def serve(self, stream: Stream) -> None:
        """Serve the connection that its pod has opened, until either side ends."""
        self._come = True
        self._moved.set()
        self._said("")
        kinds, budget = (pods_pb2.PodUp, pods_pb2.PodDown), Budget(POD)
        self._link = link = PodLink(
            stream, self._blobs, self._words, kinds, budget=budget, most=lambda: self._most, came=self._held
        )
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write(stream, link))
                await self._listen(link)
                writing.cancel()
            await asyncio.wait({self._over}, timeout=LAST_S)  # the cluster knows better why a connection broke
        finally:
            self._end("the connection to its pod broke")
            if self._artifacts is not None and (said := self._artifacts.end()):
                self._output(f"convoy: {said}\n".encode())

    async def _write(self, stream: Stream, link: PodLink[pods_pb2.PodUp, pods_pb2.PodDown]) -> None:
        try:
            for piece in _pieces(self._code):
                await stream.write(pods_pb2.PodDown(code=piece))
            await link.write(PING_S, lambda: pods_pb2.PodDown(ping=pb.Ping()))
        except Unreachable:
            return

    async def _listen(self, link: PodLink[pods_pb2.PodUp, pods_pb2.PodDown]) -> None:
        try:
            while not self._over.done() and (up := await link.read()) is not None:
                self._heard(up)
        except Unreachable:
            return
        except RemoteFault as problem:
            self._ups.put_nowait(problem)
        except (ConvoyError, OSError) as problem:  # no space for what it sent
            self._end(errors.line(problem))

    def _heard(self, up: pods_pb2.PodUp) -> None:
        match up.WhichOneof("it"):
            case "life":
                self._cpu_s = up.life.cpu_s
            case "word":
                if self._ups.qsize() >= MAX_UPS:
                    raise RemoteFault(f"its pod sent {MAX_UPS} messages more than its node could handle")
                self._held.update(up.word.wholes)
                self._ups.put_nowait(up.word)
            case "output":
                self._output(up.output)
            case "artifact" if self._artifacts is not None:
                self._artifacts.take(up.artifact)
            case "ended":
                how = up.ended.how  # the image may be the job's own, so only known texts are accepted
                self._end(how if ENDS.fullmatch(how) else "its pod did not report a valid end")
            case other:
                raise RemoteFault(f"the pod of a worker sent {other!r}")

    def _end(self, how: str) -> None:
        if not self._over.done():
            self._over.set_result(how)
            self._moved.set()
            self._ups.put_nowait(None)
            self._said("")

    def _said(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._waits(trouble)

    async def _try(self, what: Callable[[], Awaitable[None]]) -> None:
        """Do something with the cluster; if its API server does not answer, retry until it does or the node stops."""
        backoff = Backoff()
        while True:
            try:
                await what()
            except Unreachable as problem:
                if self._leaving.is_set():  # what is left belongs to the node's own pod, and is removed with it
                    return
                self._said(errors.line(problem))
                await backoff.wait(self._leaving)
            else:
                return

    async def _create(self) -> None:
        """Make the Job, then the Secret that belongs to it: its pod waits for the Secret."""
        job, secret = self._made
        if uid := await self._api.create(job):
            secret["metadata"]["ownerReferences"] = [owner(job["apiVersion"], job["kind"], self.name, uid)]
        await self._api.create(secret)

    async def _remove(self) -> None:
        for it in self._made:
            await self._api.remove(it["kind"], it["metadata"]["name"])


def _pieces(code: Path) -> Iterator[pods_pb2.Piece]:
    """Yield the files of a job's code."""
    for path in sorted(code.rglob("*")):
        if path.is_file():
            name, data = path.relative_to(code).as_posix(), path.read_bytes()
            for start in range(0, len(data) or 1, PIECE):
                yield pods_pb2.Piece(path=name, data=data[start : start + PIECE])
