"""Transfers raw bytes between streams and files in a few threads, so that they do not block the event loop.

If many sites on a fast network transferred at once, all would finish at the same late time. A fast peer therefore keeps
its thread until everything is transferred: sites finish one after the other, the first ones train while the last ones
wait, and memory does not grow with their number. A peer that keeps a thread waiting for `LATE_S` loses it and is waited
for on the event loop, because then the network is the bottleneck, not this process.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol
from weakref import WeakValueDictionary

from convoy.errors import RemoteFault, Unreachable
from convoy.wire.stream import SILENCE_S, Stream, lost

QUICK: Final = 3  # transfers at a time in each direction
OF_ONE: Final = 2  # of them of one peer: whatever it transfers, there is a thread for others
CHUNK: Final = 1 << 20  # bytes that are read, hashed and written at once
LATE_S: Final = 0.02  # a round trip of this length fills no window faster than this process empties it
TELL_S: Final = 0.25  # transferred bytes count as progress; reporting it four times a second is enough

Moved = Callable[[int], None]  # called on the event loop with the number of bytes since the last call


class Pump:
    """A few threads for each direction, first come, first served."""

    def __init__(self, threads: int = QUICK) -> None:
        """Start without threads: each is started when it is first needed."""
        self._out = ThreadPoolExecutor(threads, "pump-out")
        self._in = ThreadPoolExecutor(threads, "pump-in")
        self._buffers = threading.local()  # one buffer for each thread
        self._turns: WeakValueDictionary[tuple[int, str], asyncio.Semaphore] = WeakValueDictionary()

    async def send(
        self, stream: Stream, file: int, ranges: Iterable[tuple[int, int]], moved: Moved | None = None
    ) -> None:
        """Send byte ranges of an open file. Raises `Unreachable`, and `RemoteFault` for a range that is not there."""
        await self._run(self._out, stream, _Sending(stream, file, ranges, moved), stream.writable)

    async def receive(
        self, stream: Stream, count: int, feed: Callable[[memoryview], None], moved: Moved | None = None
    ) -> None:
        """Receive `count` bytes and feed them in pieces, in a thread. Raises `Unreachable`, and what `feed` raises."""
        await self._run(self._in, stream, _Receiving(stream, count, feed, moved), stream.readable)

    async def _run(
        self, pool: ThreadPoolExecutor, stream: Stream, move: _Move, ready: Callable[[], Awaitable[None]]
    ) -> None:
        turns = self._turns.setdefault((id(pool), stream.peer), asyncio.Semaphore(OF_ONE if stream.peer else QUICK))
        while True:
            async with turns:
                if await self._step(pool, stream, move):
                    return
            try:
                async with asyncio.timeout(SILENCE_S):
                    await ready()
            except TimeoutError:
                raise Unreachable(
                    "the transfer is stalled", why=f"no byte was transferred for {SILENCE_S:g} s"
                ) from None

    async def _step(self, pool: ThreadPoolExecutor, stream: Stream, move: _Move) -> bool:
        """Transfer in a thread for as long as the peer is fast; return whether everything is transferred."""
        step = asyncio.get_running_loop().run_in_executor(pool, self._with_buffer, move)
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            stream.cut()
            await asyncio.gather(step, return_exceptions=True)  # the thread uses the socket and the file until its end
            raise

    def _with_buffer(self, move: _Move) -> bool:
        if not hasattr(self._buffers, "view"):
            self._buffers.view = memoryview(bytearray(CHUNK))
        return move(self._buffers.view)

    def close(self) -> None:
        """End the threads."""
        self._out.shutdown(wait=False)
        self._in.shutdown(wait=False)


class _Move(Protocol):
    def __call__(self, buffer: memoryview, /) -> bool:
        """Transfer through this thread's buffer; return whether everything is transferred: if not, the peer is slow."""
        ...


class _Teller:
    """Reports transferred bytes to the event loop, at intervals."""

    def __init__(self, moved: Moved | None) -> None:
        self._moved = moved
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._told = 0.0

    def add(self, count: int) -> None:
        """Count bytes."""
        self._count += count
        if time.monotonic() - self._told > TELL_S:
            self.tell()

    def tell(self) -> None:
        """Report the bytes that are not reported yet."""
        count, self._count = self._count, 0
        self._told = time.monotonic()
        if count and self._moved is not None:
            self._loop.call_soon_threadsafe(self._moved, count)


class _Sending:
    """Outgoing bytes. A piece that TLS accepted only in part is read and passed again, as OpenSSL demands."""

    def __init__(self, stream: Stream, file: int, ranges: Iterable[tuple[int, int]], moved: Moved | None) -> None:
        self._stream = stream
        self._file = file
        self._pieces: Iterator[tuple[int, int]] = (
            (place, min(CHUNK, end - place)) for start, end in ranges for place in range(start, end, CHUNK)
        )
        self._piece = (0, 0)
        self._teller = _Teller(moved)

    def __call__(self, buffer: memoryview) -> bool:
        sock = self._stream.sock
        sock.settimeout(LATE_S)
        try:
            while self._read(buffer):
                place, size = self._piece
                sent = sock.send(buffer[:size])
                self._piece = (place + sent, size - sent)
                self._teller.add(sent)
        except TimeoutError:
            return False
        except OSError as problem:
            raise lost(problem) from problem
        finally:
            sock.settimeout(0)
            self._teller.tell()
        return True

    def _read(self, buffer: memoryview) -> bool:
        """Put the piece that is to be sent into the buffer; return False when there is none."""
        if not self._piece[1]:
            self._piece = next(self._pieces, (0, 0))
        place, size = self._piece
        if size and os.preadv(self._file, [buffer[:size]], place) < size:
            raise RemoteFault(f"that blob has no bytes {place} to {place + size}")
        return size > 0


class _Receiving:
    """Incoming bytes."""

    def __init__(self, stream: Stream, count: int, feed: Callable[[memoryview], None], moved: Moved | None) -> None:
        self._stream = stream
        self._left = count
        self._feed = feed
        self._teller = _Teller(moved)

    def __call__(self, buffer: memoryview) -> bool:
        sock = self._stream.sock
        sock.settimeout(LATE_S)
        try:
            while self._left:
                if not self._take(buffer[: min(CHUNK, self._left)]):
                    return False
        finally:
            sock.settimeout(0)
            self._teller.tell()
        return True

    def _take(self, view: memoryview) -> bool:
        """Fill the view and feed it, also the part before a fault; return False when the peer is slow."""
        filled, late, fault = 0, False, None
        try:
            while filled < len(view):
                count = self._stream.sock.recv_into(view[filled:])
                if not count:
                    raise ConnectionError("it ended before its last byte")
                filled += count
        except TimeoutError:
            late = True
        except OSError as problem:
            fault = lost(problem)
        if filled:
            self._left -= filled
            self._teller.add(filled)
            self._feed(view[:filled])
        if fault is not None:
            raise fault
        return not late
