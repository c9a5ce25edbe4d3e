"""The site's connection to its server (its line); messages while it is closed are dropped and repeated later.

The line is one connection that stays open. Transfers have connections of their own, which end with it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from convoy.errors import NotAllowed, RemoteFault, Unreachable
from convoy.wire import convoy_pb2 as pb
from convoy.wire.budget import Budget, Rate
from convoy.wire.dial import Way
from convoy.wire.pump import Pump
from convoy.wire.send_queue import SendQueue
from convoy.wire.stream import Stream, hear, speak

SERVER: Final = Rate(5000, 256 << 20, 4)  # 5,000 messages and 256 MiB a second of a server, 4 s of that at once


@dataclass(slots=True)
class Line:
    """Connects to the server, and holds the line while it is open."""

    way: Way
    pump: Pump
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    received: int = 0  # bytes of models and bundles since the start
    sent: int = 0  # bytes of updates and artifacts
    opened: int = 0  # times that the line was open
    _ups: SendQueue[pb.Up] = field(default_factory=SendQueue)
    _stream: Stream | None = None  # the line's own
    _open: set[Stream] = field(default_factory=set)  # in use
    _idle: list[Stream] = field(default_factory=list)
    _retired: int = 0  # how often all connections were retired
    _budget: Budget = field(default_factory=lambda: Budget(SERVER))

    def send(self, up: pb.Up) -> None:
        """Send a message if the line is open; close a line whose server does not read, and repeat everything later."""
        if not self.connected.is_set() or (up.HasField("progress") and not self._ups.roomy):
            return
        if not self._ups.unread:
            self._ups.put_nowait(up)
        elif self._stream is not None:
            reason = f"the server has left {self._ups.qsize()} messages unread"
            structlog.get_logger().warning("the connection is closed", reason=reason)
            self._stream.cut()
            self._stream = None

    @property
    def queued(self) -> tuple[int, int]:
        """The messages that wait to be sent, and their bytes."""
        return self._ups.qsize(), self._ups.size

    def _came(self, count: int) -> None:
        self.received += count

    def _went(self, count: int) -> None:
        self.sent += count

    async def room(self) -> None:
        """Wait until most queued messages are sent, or the line is closed."""
        await self._ups.room()

    async def session(self, hello: pb.Hello) -> AsyncGenerator[pb.Down, None]:
        """Open the line and yield the server's messages until it closes the connection.

        Raises `Unreachable` if it does not answer or is lost, and `NotAllowed` or `RemoteFault` if it refuses us.
        """
        async with self._opened(pb.Opening(hello=hello)) as stream:
            self._ups, self._stream = SendQueue(), stream
            self.connected.set()
            self.opened += 1
            writer = asyncio.create_task(self._write(stream))
            try:
                while (down := await hear(stream, pb.Down, self._budget)) is not None:
                    if down.WhichOneof("it") != "ping":
                        yield down
            finally:
                self.connected.clear()
                self._stream = None
                self._ups.end()
                writer.cancel()
                await asyncio.wait({writer})
                for transfer in self._open:
                    transfer.cut()
                self.retire()

    def retire(self) -> None:
        """Do not reuse the present connections: the next transfers open new ones with the new certificate."""
        self._retired += 1
        for transfer in self._idle:
            transfer.close()
        self._idle.clear()

    async def _write(self, stream: Stream) -> None:
        with suppress(Unreachable):  # the reader of the same connection gets its end and the reason
            await speak(stream, self._ups, pb.Up(ping=pb.Ping()))

    async def pull(self, request: pb.PullRequest, feed: Callable[[memoryview], None]) -> None:
        """Fetch the ranges of a blob or a bundle and feed them. Raises `Unreachable`, `NotAllowed`, `RemoteFault`."""
        async with self._opened(pb.Opening(pull=request)) as stream:
            await self.pump.receive(stream, sum(part.end - part.start for part in request.ranges), feed, self._came)

    async def push(self, offer: pb.Offer, path: str) -> None:
        """Offer an update, then send what the server wants of its file.

        Raises `Unreachable`, `NotAllowed`, `RemoteFault`, `OSError`.
        """
        async with self._opened(pb.Opening(push=pb.Push()), offer) as stream:
            want = await hear(stream, pb.Want, self._budget)
            if want is None:
                raise Unreachable("the server hung up")
            if want.ranges:
                await self._send(stream, path, [(part.start, part.end) for part in want.ranges])

    async def bring(self, head: pb.ArtifactsHead, path: str) -> None:
        """Send a package of artifacts. Raises `Unreachable`, `NotAllowed`, `RemoteFault`, `OSError`."""
        async with self._opened(pb.Opening(artifacts=head)) as stream:
            await self._send(stream, path, [(0, head.size)])

    async def _send(self, stream: Stream, path: str, ranges: Iterable[tuple[int, int]]) -> None:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self.pump.send(stream, file, ranges, self._went)
            _demand(await stream.read(pb.Verdict))
        finally:
            os.close(file)

    @asynccontextmanager
    async def _opened(self, opening: pb.Opening, *more: pb.Offer) -> AsyncIterator[Stream]:
        """Give a connection on which the server has agreed; a transfer that ends in order leaves it to the next.

        `more` follows the opening at once.
        """
        retired, in_order = self._retired, False
        stream = await self._agreed(opening, *more)
        try:
            yield stream
            fresh = self.connected.is_set() and self._retired == retired
            in_order = fresh and opening.WhichOneof("it") != "hello"
        finally:
            if in_order:
                self._open.discard(stream)
                self._idle.append(stream)
            else:
                self._close(stream)

    async def _agreed(self, opening: pb.Opening, *more: pb.Offer) -> Stream:
        while True:
            used = bool(self._idle)
            stream = self._idle.pop() if used else await self.way.dial()
            self._open.add(stream)
            try:
                await stream.write(opening, *more)
                _demand(await hear(stream, pb.Verdict, self._budget))
            except Unreachable:
                self._close(stream)
                if not used:  # the server may have closed a reused connection in the meantime
                    raise
            except BaseException:
                self._close(stream)
                raise
            else:
                return stream

    def _close(self, stream: Stream) -> None:
        self._open.discard(stream)
        stream.close()


def _demand(verdict: pb.Verdict | None) -> None:
    """Raise the server's refusal."""
    if verdict is None:
        raise Unreachable("the server closed the connection")
    match verdict.fault:
        case pb.Verdict.NONE:
            return
        case pb.Verdict.NOT_ALLOWED:
            raise NotAllowed("the server refused this site", why=verdict.reason)
        case _:
            raise RemoteFault("the server reported an error", why=verdict.reason)
