"""One end of the line between a node and the pod of a worker: words in order, each blob before the word that names it.

Both ends have a folder of blobs. The node knows which of them the pod has, and tells it which to let go.
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

NAMING: Final = ("word", "launch")  # what may name a blob
MAX_UNNAMED: Final = 2  # blobs that one message names: a model or an update, and a state
CHUNK: Final = 1 << 18  # bytes between two turns of the event loop: all else that a node does waits no longer than this

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
        """`words` holds what is to be said, each with the blobs that go before it; None is the end of it.

        `holder` holds what comes, and `came` is told. `budget`: how much the other end may say.
        `most`: the bytes that a blob may have which comes now.
        """
        self.came: set[str] = set() if came is None else came
        self._most = most
        self._budget = budget
        self.moved = 0  # bytes of blobs that have come
        self._unnamed: list[str] = []  # the blobs that came last, until a word names them
        self._stream = stream
        self._blobs = blobs
        self._holder = holder
        self._words: asyncio.Queue[tuple[Out, tuple[str, ...]] | None] = words
        self._into: type[In] = kinds[0]
        self._out: type[Out] = kinds[1]

    async def write(self, pulse_s: float, pulse: Callable[[], Out]) -> None:
        """Say what is in the queue, and `pulse()` each time that so long has gone by; return at None.

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
            if loop.time() >= due:  # by the clock, however much else there is to say
                await self._stream.write(pulse())
                due = loop.time() + pulse_s
            if said is None:
                continue
            word, digests = said
            for digest in digests:
                await self._ship(digest)
            await self._stream.write(word)

    async def read(self) -> In | None:
        """Return the next word, None when the other end has closed; the blobs that came before it are kept.

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
        """Send a blob. One that is not here any more nobody waits for: its word says so."""
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
                await asyncio.sleep(0)  # a socket that takes everything at once suspends nobody

    async def _take(self, said: pb.Blob) -> None:
        if len(self._unnamed) >= MAX_UNNAMED:
            raise RemoteFault(f"blob {said.digest[:12]} came where a word was due that names {self._unnamed[0][:12]}")
        if max(said.size, len(said.whole)) > self._most():
            raise RemoteFault(f"a blob of {said.size} bytes is announced", why=f"at most {self._most():.0f} are wanted")
        self._unnamed.append(said.digest)
        await self._kept(said)
        self.came.add(said.digest)  # not before: it must be here

    async def _kept(self, said: pb.Blob) -> None:
        here = self._blobs.hold(self._holder, said.digest)  # what is here is right, and stays as it is
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
            self._blobs.release(self._holder, said.digest)  # nobody goes on with half of it
            raise

    async def _receive(self, count: int, feed: Callable[[memoryview], None]) -> None:
        buffer = memoryview(bytearray(min(CHUNK, count)))
        while count:
            try:
                async with asyncio.timeout(SILENCE_S):
                    got = await self._stream.take(buffer[: min(CHUNK, count)])
            except TimeoutError:
                raise Unreachable("a blob stands still", why=f"no byte of it came for {SILENCE_S:g} s") from None
            feed(buffer[:got])
            count -= got
            self.moved += got
            await asyncio.sleep(0)  # a socket that always has bytes suspends nobody


def named(word: pb.WorkerDown | pb.WorkerUp) -> tuple[str, ...]:
    """Return the digests of the blobs that a word between a node and its worker speaks of."""
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
