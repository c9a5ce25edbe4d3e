"""One end of the connection between a node and a worker's pod: messages in order, each after the blobs that it names.

Both ends have a folder of blobs. The node knows which of them the pod has, and tells it which to drop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from convoy.errors import NotFound, RemoteFault, Unreachable
from convoy.model import blob
from convoy.store.blobs import HANDED, BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import pods_pb2
from convoy.wire.budget import Budget
from convoy.wire.stream import SILENCE_S, Stream, hear

NAMING: Final = ("word", "launch")  # messages that may name a blob
MAX_UNNAMED: Final = 2  # blobs that one message names: a model or an update, and a state
CHUNK: Final = 1 << 18  # bytes after which other tasks of the event loop may run

Out = TypeVar("Out", pods_pb2.PodDown, pods_pb2.PodUp)
In = TypeVar("In", pods_pb2.PodDown, pods_pb2.PodUp)


class PodLink(Generic[In, Out]):
    """Reads and writes one connection; its owner runs `write` in a task, and calls `read` until the end."""

    def __init__(
        self,
        stream: Stream,
        blobs: BlobFolder,
        words: asyncio.Queue[tuple[Out, tuple[str, ...]] | None],
        kinds: tuple[type[In], type[Out]],
        *,
        budget: Budget,
        most: Callable[[], float] = lambda: math.inf,
        holder: str = HANDED,
        came: set[str] | None = None,
    ) -> None:
        """`words` holds the messages to send, each with the blobs to send first; None ends it.

        `holder` holds received blobs, and `came` is called for them. `budget`: that of the other end.
        `most`: the largest size of the next blob in bytes.
        """
        self.came: set[str] = set() if came is None else came
        self._most = most
        self._budget = budget
        self.moved = 0  # bytes of received blobs
        self._unnamed: list[str] = []  # the last received blobs, until a message names them
        self._stream = stream
        self._blobs = blobs
        self._holder = holder
        self._words: asyncio.Queue[tuple[Out, tuple[str, ...]] | None] = words
        self._into: type[In] = kinds[0]
        self._out: type[Out] = kinds[1]

    async def write(self, pulse_s: float, pulse: Callable[[], Out]) -> None:
        """Send the queued messages, and `pulse()` at each interval; return at None.

        Raises `Unreachable` once the other end is gone.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + pulse_s
        while True:
            said: tuple[Out, tuple[str, ...]] | None = None
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    said = await self._words.get()
                    if said is None:
                        return
            if loop.time() >= due:  # by the clock, even if many messages wait
                await self._stream.write(pulse())
                due = loop.time() + pulse_s
            if said is None:
                continue
            word, digests = said
            for digest in digests:
                await self._ship(digest)
            await self._stream.write(word)

    async def read(self) -> In | None:
        """Return the next message, None when the other end has closed; the blobs before it are stored.

        Raises `Unreachable`, `RemoteFault` for a blob that is not what its digest says, and `StorageFull`.
        """
        while True:
            word: In | None = await hear(self._stream, self._into, self._budget)
            if word is None:
                return None
            if word.WhichOneof("it") == "blob":
                await self._take(word.blob)
                continue
            if word.WhichOneof("it") in NAMING:
                self._unnamed.clear()
            return word

    async def _ship(self, digest: str) -> None:
        """Send a blob; skip one that has been dropped, because then its message is not needed any more."""
        try:
            found = self._blobs.open(digest)
        except NotFound:
            return
        layout = found.layout
        if layout.size < blob.SMALL:
            await self._stream.write(self._out(blob=pb.Blob(digest=digest, size=layout.size, whole=found.whole())))
            return
        await self._stream.write(self._out(blob=pb.Blob(digest=digest, size=layout.size, header=layout.header)))
        with memoryview(found.data) as view:
            for start in range(len(layout.header), layout.size, CHUNK):
                with view[start : start + CHUNK] as chunk:
                    await self._stream.give(chunk)
                await asyncio.sleep(0)  # a socket that accepts everything at once never suspends this task

    async def _take(self, said: pb.Blob) -> None:
        if len(self._unnamed) >= MAX_UNNAMED:
            raise RemoteFault(f"blob {said.digest[:12]} arrived before a message that names {self._unnamed[0][:12]}")
        if max(said.size, len(said.whole)) > self._most():
            raise RemoteFault(f"a blob of {said.size} bytes is announced", why=f"the limit is {self._most():.0f}")
        self._unnamed.append(said.digest)
        await self._kept(said)
        self.came.add(said.digest)  # only now, because it must be complete

    async def _kept(self, said: pb.Blob) -> None:
        here = self._blobs.hold(self._holder, said.digest)  # the stored blob is correct and stays
        if said.whole:
            if not here:
                self._blobs.put(self._holder, said.whole, expect=said.digest)
            return
        layout = blob.parse(said.header, expect=said.digest)
        if said.size != layout.size:
            raise RemoteFault(
                f"blob {said.digest[:12]} is announced with {said.size} bytes", why=f"it has {layout.size}"
            )
        count = layout.size - len(layout.header)
        if here:
            await self._receive(count, lambda _: None)
            return
        try:
            with self._blobs.receive(self._holder, layout, near=()) as receiver:
                await self._receive(count, receiver.feed)
                receiver.finish()
        except BaseException:
            self._blobs.release(self._holder, said.digest)  # half of it is useless
            raise

    async def _receive(self, count: int, feed: Callable[[memoryview], None]) -> None:
        buffer = memoryview(bytearray(min(CHUNK, count)))
        while count:
            try:
                async with asyncio.timeout(SILENCE_S):
                    got = await self._stream.take(buffer[: min(CHUNK, count)])
            except TimeoutError:
                raise Unreachable("a transfer is stalled", why=f"no byte was received for {SILENCE_S:g} s") from None
            feed(buffer[:got])
            count -= got
            self.moved += got
            await asyncio.sleep(0)  # a socket that always has bytes never suspends this task


def named(word: pb.WorkerDown | pb.WorkerUp) -> tuple[str, ...]:
    """Return the digests of the blobs that a message between a node and its worker names."""
    kind = word.WhichOneof("it")
    said: Any = getattr(word, kind) if kind else None
    match kind:
        case "flow":
            return (said.committed_model, said.committed_state)
        case "task":
            return (said.question.model, said.state)
        case "answer":  # a site's, to a workflow, or a trainer's own
            return (said.answer.digest,) if isinstance(word, pb.WorkerDown) else (said.digest, said.state)
        case "ask":
            return (said.model,)
        case "commit":
            return (said.model, said.state)
        case _:
            return ()
