"""The pod runner: in the pod of a worker, it connects to its node, stores code and blobs, and starts the worker.

    python -m convoy.pods.runner

Its credential is valid once, for an hour. If the connection to the node breaks, the pod ends; the node makes a new one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from convoy import errors
from convoy.errors import ConvoyError, RemoteFault, Unreachable
from convoy.node.isolation import Walls, probe
from convoy.node.launcher import Order, ProcessLauncher, ProcessWorker
from convoy.pods import artifacts
from convoy.pods.link import PodLink, named
from convoy.spec.settings import Grants
from convoy.store import handover
from convoy.store.blobs import BlobFolder
from convoy.trust import paths
from convoy.wire import convoy_pb2 as pb
from convoy.wire import pods_pb2
from convoy.wire.backoff import Backoff
from convoy.wire.budget import Budget, Rate
from convoy.wire.dial import Way
from convoy.wire.stream import Stream

NODE: Final = "CONVOY_NODE"  # HOST:PORT of the node
PASS: Final = Path("/pass")  # the credential, as the pod's Secret has it
WORK: Final = Path("/work")
NETWORK: Final = Grants(network=True)  # the NetworkPolicy decides what a pod reaches; torchrun needs loopback
PULSE_S: Final = 1.0  # how often CPU seconds are reported: as often as a node checks a process of its own
DIAL_S: Final = 60.0  # for the network to let a new pod through to its node
LAST_S: Final = 5.0  # for the last messages to arrive
NODE_SAYS: Final = Rate(5000, 256 << 20, 4)  # 5,000 messages and 256 MiB a second of a node, 4 s of that at once
MAX_WORDS: Final = 256  # messages that wait for the connection to the node; each line of output has at most 64 KiB
FAILED: Final = 74  # exit status (EX_IOERR) of a pod that could not store its files
LINE: Final = "line"  # the holder of blobs that the node knows to be here
UNREACHED: Final = 69  # exit status (EX_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Pass:
    """The credential's files."""

    folder: Path

    @property
    def root_file(self) -> Path:
        """The root of its node, the only one that it trusts."""
        return self.folder / "ca.crt"

    @property
    def cert_file(self) -> Path:
        """Its certificate."""
        return self.folder / "tls.crt"

    @property
    def key_file(self) -> Path:
        """Its private key."""
        return self.folder / "tls.key"


def main(env: Mapping[str, str] = os.environ) -> None:
    """Serve one worker, then end with exit status 0: how the worker ended is reported to the node."""
    host, _, port = env[NODE].rpartition(":")
    folder = Path(env.get("CONVOY_WORK", WORK))
    way = Way(host.strip("[]"), int(port), Pass(Path(env.get("CONVOY_PASS", PASS))))
    try:
        asyncio.run(_serve(way, folder))
    except ConvoyError as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(UNREACHED)


async def _serve(way: Way, folder: Path) -> None:
    stream = await _dialled(way)
    try:
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        await PodRunner(stream, folder).run()
    finally:
        stream.close()


async def _dialled(way: Way) -> Stream:
    """Return the connection to the node. Raises `NotAllowed`, and `Unreachable` if it is not reached in time."""
    backoff, never = Backoff(), asyncio.Event()
    over = asyncio.get_running_loop().time() + DIAL_S
    while True:
        try:
            return await way.dial()
        except Unreachable:
            if asyncio.get_running_loop().time() > over:
                raise
        await backoff.wait(never)


@dataclass(slots=True)
class PodRunner:
    """Does for one worker in a pod what its node does for workers on its own machine."""

    stream: Stream
    folder: Path
    _words: asyncio.Queue[tuple[pods_pb2.PodUp, tuple[str, ...]] | None] = field(
        default_factory=lambda: asyncio.Queue(MAX_WORDS)
    )
    _missing: int = 0  # bytes of output that were left out
    _worker: ProcessWorker | None = None

    @property
    def _out(self) -> Path:
        return self.folder / "out"

    @property
    def _blobs(self) -> BlobFolder:
        return BlobFolder(self.folder / "blobs")

    async def run(self) -> None:
        """Serve until the worker has ended and the node knows, or until the node is gone: then end the worker, too."""
        kinds, budget = (pods_pb2.PodDown, pods_pb2.PodUp), Budget(NODE_SAYS)
        link = PodLink(self.stream, self._blobs, self._words, kinds, budget=budget, holder=LINE)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._leave)
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._write(link))
            listening = group.create_task(self._listen(link, group))
            await asyncio.wait({writing, listening}, return_when=asyncio.FIRST_COMPLETED)
            if self._worker is not None:
                await self._worker.stop(0)
            with suppress(asyncio.QueueFull):  # then close the connection in mid-message
                self._words.put_nowait(None)
            await asyncio.wait(
                {writing, listening}, timeout=LAST_S
            )  # the node disconnects when it has received everything
            self.stream.cut()
            await asyncio.wait({listening})
            if self._worker is not None:  # it may have arrived when the connection broke
                await self._worker.stop(0)

    def _leave(self) -> None:
        """The pod is to end: close the connection, so that the node notices."""
        self.stream.cut()

    async def _write(self, link: PodLink[pods_pb2.PodDown, pods_pb2.PodUp]) -> None:
        try:
            await link.write(PULSE_S, self._life)
        except Unreachable:
            return

    def _life(self) -> pods_pb2.PodUp:
        return pods_pb2.PodUp(life=pods_pb2.Life(cpu_s=0.0 if self._worker is None else self._worker.cpu_s()))

    async def _listen(self, link: PodLink[pods_pb2.PodDown, pods_pb2.PodUp], group: asyncio.TaskGroup) -> None:
        try:
            while (down := await link.read()) is not None:
                await self._said(down, group)
        except Unreachable:
            return
        except ConvoyError as problem:  # no space for the data, or wrong data
            self._printed(f"convoy: {errors.line(problem)}\n".encode())
            await self._words.put((pods_pb2.PodUp(ended=pods_pb2.Ended(how=f"exit code {FAILED}")), ()))
            await self._words.put(None)

    async def _said(self, down: pods_pb2.PodDown, group: asyncio.TaskGroup) -> None:
        match down.WhichOneof("it"):
            case "ping":
                return
            case "code":
                self._keep(down.code)
            case "launch":
                self._worker = await self._launched(down.launch)
                group.create_task(self._hear(self._worker))
            case "word" if self._worker is not None:
                self._worker.send(down.word)
            case "forget":
                self._blobs.release(LINE, *down.forget.digests)
            case "end" if self._worker is not None:
                await self._worker.stop(down.end.grace_s)
            case other:
                raise RemoteFault(f"the node sent {other!r} at the wrong time")

    def _keep(self, piece: pods_pb2.Piece) -> None:
        if why := paths.problem([piece.path]):
            raise RemoteFault(f"the job's code cannot be stored: {why}")
        path = self.folder / "code" / piece.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(piece.data)

    async def _launched(self, launch: pods_pb2.Launch) -> ProcessWorker:
        """Start the worker, with the folders that a node would give it."""
        begin = launch.begin
        told = begin.flow if begin.WhichOneof("it") == "flow" else begin.trainer
        code = self.folder / "code"
        code.mkdir(exist_ok=True)
        told.code, told.blobs, told.out = str(code), str(self._blobs.folder), str(self._out)
        handover.empty(self._out)
        order = Order(launch.module, begin, code, dict(launch.env))
        walls = Walls.build(probe(self.folder), NETWORK, [self.folder, PASS])
        return await ProcessLauncher(self.folder, walls).launch(order, self._printed)

    def _printed(self, data: bytes) -> None:
        """Queue the worker's output; what cannot be sent in time is counted and left out."""
        if self._words.full():
            self._missing += len(data)
            return
        if self._missing:
            data = f"\nconvoy: {self._missing} bytes of output are left out here\n".encode() + data
            self._missing = 0
        self._words.put_nowait((pods_pb2.PodUp(output=data), ()))

    async def _taken(self, up: pb.WorkerUp) -> tuple[str, ...]:
        """Copy the blobs that the worker has written for this message, and return them; the node has the others."""
        for digest, whole in up.wholes.items():  # they are in the message
            self._blobs.take(LINE, self._out, digest, lambda *_: None, whole)
        digests = [digest for digest in named(up) if digest and digest not in up.wholes]
        written = tuple(digest for digest in digests if handover.size(self._out, digest))
        fits = handover.room(shutil.disk_usage(self.folder).free)
        for digest in written:
            await asyncio.to_thread(self._blobs.take, LINE, self._out, digest, fits)
        return written

    async def _hear(self, worker: ProcessWorker) -> None:
        """Pass on the worker's messages, and how it ended."""
        ended = asyncio.create_task(worker.ended())
        try:
            while (up := await worker.receive()) is not None:
                await self._words.put((pods_pb2.PodUp(word=up), await self._taken(up)))
        except ConvoyError as problem:
            self._printed(f"{problem}\n".encode())
            await worker.stop(0)
        how = await ended
        for piece in artifacts.pieces(self.folder / "code"):
            await self._words.put((pods_pb2.PodUp(artifact=piece), ()))
        await self._words.put((pods_pb2.PodUp(ended=pods_pb2.Ended(how=how)), ()))
        await self._words.put(None)


if __name__ == "__main__":
    main()
