"""One TLS connection between a site and its server: frames on the event loop; a `Pump` may borrow it for raw bytes.

A socket that never blocks and OpenSSL right on it: no copies in between. One task reads and one writes at a time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from convoy.errors import NotAllowed, Unreachable
from convoy.wire.budget import Budget
from convoy.wire.frames import LENGTH, MAX_FRAME, Message, length_of, pack, parsed

M = TypeVar("M", bound=Message)
T = TypeVar("T")

PING_S: Final = 20.0  # of silence, after which a ping is sent: so load balancers and proxies keep the connection
SILENCE_S: Final = 30.0  # a peer that sends nothing for so long is considered gone
STALL_S: Final = 1.0  # a timer that is later than this says that this process stood still, not that its peer did


class Stream:
    """A connection; its owner closes it. Every method raises `Unreachable` once the other end is gone."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        """Take over a connected socket."""
        sock.settimeout(0)
        self.sock = sock
        self.heard = 0  # bytes of messages so far
        self.amid = False  # a part of a message has been read
        self.peer = ""  # the site at the other end, once it is known
        self._loop = asyncio.get_running_loop()
        self._reading = _Side(sock.fileno(), self._loop.add_reader, self._loop.remove_reader)
        self._writing = _Side(sock.fileno(), self._loop.add_writer, self._loop.remove_writer)

    async def handshake(self) -> None:
        """Do the handshake and check the peer's certificate. Raises `NotAllowed` for one of another root."""
        try:
            await self._do(self.sock.do_handshake)
        except Unreachable as problem:
            cause = problem.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise NotAllowed("the other end does not belong to this project", why=cause.verify_message) from problem
            if isinstance(cause, ssl.SSLError) and cause.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
                raise NotAllowed("the other end shows no certificate") from problem
            raise

    async def read(self, kind: type[M], limit: int = MAX_FRAME) -> M | None:
        """Return the next message, or None when the other end has closed. Raises `RemoteFault` for an invalid one."""
        head = await self._exactly(LENGTH.size)
        if head is None:
            return None
        body = await self._exactly(length_of(head, limit))
        if body is None:
            raise Unreachable("the connection was lost in the middle of a message")
        self.heard += LENGTH.size + len(body)
        self.amid = False
        return parsed(kind, body)

    async def _exactly(self, size: int) -> bytes | None:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = await self._do(partial(self.sock.recv_into, view))
            if not count:
                return None
            self.amid = True
            view = view[count:]
        return bytes(data)

    async def write(self, *messages: Message) -> None:
        """Send messages."""
        await self.give(memoryview(b"".join(map(pack, messages))))

    async def give(self, view: memoryview) -> None:
        """Send raw bytes."""
        while view:
            view = view[await self._do(partial(self.sock.send, view)) :]

    async def take(self, view: memoryview) -> int:
        """Put the raw bytes that have come into a view; return how many there were, at least one. For more, ask again.

        TLS gives at most 16 KiB at a time, so it is asked until the view is full or no more bytes are here.
        """
        filled = await self._do(partial(self.sock.recv_into, view))
        if not filled:
            raise Unreachable("the connection was lost in the middle of a transfer")
        with suppress(OSError):  # nothing more is here, or the next call says what is wrong
            while filled < len(view) and (count := self.sock.recv_into(view[filled:])):
                filled += count
        return filled

    async def readable(self) -> None:
        """Wait until bytes can be read."""
        await self._reading.ready()

    async def writable(self) -> None:
        """Wait until bytes can be written."""
        await self._writing.ready()

    async def _do(self, operation: Callable[[], T]) -> T:
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                await self._reading.ready()
            except ssl.SSLWantWriteError:
                await self._writing.ready()
            except OSError as problem:
                raise lost(problem) from problem

    def cut(self) -> None:
        """End the connection while others use it, in any thread: they get an error."""
        with suppress(OSError):
            socket.socket.shutdown(
                self.sock, socket.SHUT_RDWR
            )  # the TLS socket's own method would continue in clear text

    def close(self) -> None:
        """Close it; no one may be using it."""
        self._reading.close()
        self._writing.close()
        self.sock.close()


class _Side:
    """One direction of a socket: wakes every task that waits for it."""

    def __init__(self, descriptor: int, watch: Callable[..., object], forget: Callable[[int], object]) -> None:
        self._descriptor = descriptor
        self._watch = watch
        self._forget = forget
        self._waiting: set[asyncio.Future[None]] = set()

    async def ready(self) -> None:
        """Wait until the socket can be used."""
        turn = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._watch(self._descriptor, self._wake)
        self._waiting.add(turn)
        try:
            await turn
        finally:
            self._waiting.discard(turn)
            if not self._waiting:
                self._forget(self._descriptor)

    def _wake(self) -> None:
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)

    def close(self) -> None:
        """Stop watching."""
        if self._waiting:
            self._forget(self._descriptor)


def lost(problem: OSError) -> Unreachable:
    """Return the error for a connection that broke; OpenSSL's text comes without its source line."""
    return Unreachable("the connection was lost", why=words(problem))


def words(problem: OSError) -> str:
    """Return the text of a system call's or OpenSSL's error, without addresses and source lines."""
    if isinstance(problem, ssl.SSLError):
        return problem.reason.replace("_", " ").lower() if problem.reason else str(problem)
    number = problem.errno or 0  # getaddrinfo counts its own below 0
    return os.strerror(number) if number > 0 else problem.strerror or str(problem)


async def hear(stream: Stream, kind: type[M], budget: Budget) -> M | None:
    """Return the next message, once the other end's budget allows it; other tasks run in between.

    Raises `Unreachable` when the other end has been silent for too long, and `RemoteFault` when it sends too much. If
    this process stood still meanwhile, what was sent may be here unread: then it waits once more.
    """
    before, clock = stream.heard, asyncio.get_running_loop().time
    while True:
        due = clock() + SILENCE_S
        try:
            async with asyncio.timeout_at(due):
                message = await stream.read(kind)
                break
        except TimeoutError:
            if stream.amid or clock() < due + STALL_S:
                raise Unreachable("the other end is gone", why=f"it sent nothing for {SILENCE_S:g} s") from None
    await budget.spend(stream.heard - before)
    return message


async def speak(stream: Stream, words: asyncio.Queue[M | None], ping: M) -> None:
    """Send what is in the queue, and a ping when there is nothing for long; return at the first None."""
    while True:
        batch: list[M | None] = []
        try:
            async with asyncio.timeout(PING_S):
                batch.append(await words.get())
        except TimeoutError:
            batch.append(ping)
        while not words.empty():
            batch.append(words.get_nowait())
        await stream.write(*[word for word in batch if word is not None])
        if None in batch:
            return
