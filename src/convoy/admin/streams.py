"""Streams of the REST API: views as lines of JSON, bytes of files, and the end of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final, cast

from convoy.admin import faults
from convoy.admin.views import View
from convoy.errors import ConvoyError, Unreachable

BEAT_S: Final = 15.0  # an empty line this often keeps load balancers from closing a quiet stream
QUEUE: Final = 64  # lines of up to 16 KiB that wait for a slow reader; then their source waits
LAST_WORDS_S: Final = 1.0  # for a reader to receive the line with the reason of an early end

Message = Mapping[str, Any]


class Stream:
    """An ASGI answer of unknown length; a reader that disconnects, or loses the right, ends the source at once."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], media_type: str, *, of_lines: bool = False) -> None:
        """Send what `chunks` yields, and always close it. With `lines`, the last line says why it ended early."""
        self._chunks = chunks
        self._headers = [(b"content-type", media_type.encode()), (b"cache-control", b"no-store")]
        self._of_lines = of_lines
        self._check: Callable[[], None] = lambda: None
        self._open: set[Stream] = set()
        self._lost: asyncio.Future[ConvoyError] | None = None
        self._begun = False

    def guarded(self, check: Callable[[], None], open_: set[Stream]) -> Stream:
        """Return this stream, which calls `check` before each chunk and is in `open` meanwhile."""
        self._check, self._open = check, open_
        return self

    def look(self) -> None:
        """End now if the reader has lost the right."""
        try:
            self._check()
        except ConvoyError as problem:
            if self._lost is not None and not self._lost.done():
                self._lost.set_result(problem)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send until the source ends or the reader leaves; an error of the source aborts the answer."""
        self._lost = lost = asyncio.get_running_loop().create_future()
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        self._open.add(self)
        try:
            await asyncio.wait({sending, leaving, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open.discard(self)
            leaving.cancel()
            if not sending.done():
                sending.cancel()
            await asyncio.wait({sending, leaving})
        if lost.done():
            await self._broken_off(scope, send, lost.result())
        elif not sending.cancelled():
            sending.result()

    async def _send(self, send: Any) -> None:
        async with aclosing(self._chunks):
            await self._begin(send)
            async for chunk in self._chunks:
                self.look()
                if self._lost is None or self._lost.done():
                    return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _begin(self, send: Any) -> None:
        if not self._begun:
            self._begun = True
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})

    async def _broken_off(self, scope: Any, send: Any, problem: ConvoyError) -> None:
        """Send the reason, if the answer has lines and the reader still reads; then disconnect."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                if self._of_lines:
                    await self._begin(send)
                    await send({"type": "http.response.body", "body": _fault(problem)})
                    return
        scope["state"]["caller"].cut()


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def lines(
    items: AsyncIterator[View], closing: asyncio.Event, *, beat_s: float = BEAT_S, waiting: int = QUEUE
) -> Stream:
    """Return an answer with a line of JSON for each item; after an error, the last line is `{"error": …}`.

    Once `closing` is set, the last line says that the server stops, so that the reader reconnects later. At most
    `waiting` lines wait for a slow reader.
    """
    return Stream(_lines(items, closing, beat_s, waiting), "application/x-ndjson", of_lines=True)


async def _lines(
    items: AsyncIterator[View], closing: asyncio.Event, beat_s: float, waiting: int
) -> AsyncGenerator[bytes, None]:
    queue: asyncio.Queue[bytes] = asyncio.Queue(waiting)
    pump = asyncio.create_task(_pump(items, queue))
    pump.add_done_callback(lambda _: None if queue.full() else queue.put_nowait(b""))  # wake the tasks that wait
    leaving = asyncio.create_task(closing.wait())
    leaving.add_done_callback(lambda _: pump.cancel())
    try:
        while not (pump.done() and queue.empty()):
            try:
                async with asyncio.timeout(beat_s):
                    batch = [await queue.get()]
            except TimeoutError:
                batch = [b"\n"]
            while not queue.empty():
                batch.append(queue.get_nowait())
            yield b"".join(batch)
        if pump.cancelled():
            yield _fault(Unreachable("the server stops", fix="follow it again when it is back"))
        else:
            pump.result()
    finally:
        leaving.cancel()
        pump.cancel()
        await asyncio.wait({leaving, pump})


def _fault(problem: ConvoyError) -> bytes:
    return json.dumps({"error": faults.to_json(problem)}).encode() + b"\n"


async def _pump(items: AsyncIterator[View], queue: asyncio.Queue[bytes]) -> None:
    """Queue a line for each item."""
    source = cast("AsyncGenerator[View, None]", items)
    try:
        async with aclosing(source):
            async for item in source:
                await queue.put(item.model_dump_json(exclude_none=True).encode() + b"\n")
    except ConvoyError as problem:
        await queue.put(_fault(problem))


async def skipped(chunks: AsyncIterator[bytes], offset: int) -> AsyncGenerator[bytes, None]:
    """Yield the chunks without their first `offset` bytes."""
    source = cast("AsyncGenerator[bytes, None]", chunks)
    async with aclosing(source):
        async for chunk in source:
            if offset < len(chunk):
                yield chunk[offset:] if offset else chunk
            offset = max(offset - len(chunk), 0)


async def begun(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Return the same chunks, the first one fetched already, so that an error can still choose the status."""
    first = await anext(chunks, None)

    async def all_of_them() -> AsyncGenerator[bytes, None]:
        async with aclosing(chunks):
            if first is not None:
                yield first
                async for chunk in chunks:
                    yield chunk

    return all_of_them()
