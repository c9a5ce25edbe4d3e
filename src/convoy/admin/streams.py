"""Streams of the REST API: views as lines of JSON, bytes of files, and the end of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, cast

from convoy.admin import faults
from convoy.admin.views import View
from convoy.errors import ConvoyError, NotAllowed, Unreachable

BEAT_S: Final = 15.0  # an empty line this often keeps load balancers from cutting a quiet stream
QUEUE: Final = 1024  # lines that wait for a slow reader; then their source waits

Message = Mapping[str, Any]


class Stream:
    """An ASGI answer of unknown length; a reader that leaves ends the source at once."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], media_type: str) -> None:
        """Send what `chunks` yields; it is closed in the end, whatever happens."""
        self._chunks = chunks
        self._headers = [(b"content-type", media_type.encode()), (b"cache-control", b"no-store")]

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        """Send until the source ends or the reader leaves; a source that fails breaks the answer off."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not sending.done():
                sending.cancel()
            await asyncio.wait({sending, leaving})
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Any) -> None:
        async with aclosing(self._chunks):
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            async for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def lines(
    items: AsyncIterator[View], closing: asyncio.Event, check: Callable[[], None], *, beat_s: float = BEAT_S
) -> Stream:
    """Return an answer of a line of JSON for each item; an error on the way is the last line, `{"error": …}`.

    Once `closing` is set the last line says that the server leaves, so that the reader comes back. `check` raises
    `NotAllowed` once the reader may not go on.
    """
    return Stream(_lines(items, closing, check, beat_s), "application/x-ndjson")


async def _lines(
    items: AsyncIterator[View], closing: asyncio.Event, check: Callable[[], None], beat_s: float
) -> AsyncGenerator[bytes, None]:
    queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE)
    pump = asyncio.create_task(_pump(items, queue))
    pump.add_done_callback(lambda _: None if queue.full() else queue.put_nowait(b""))  # whoever waits looks up
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
            try:
                check()
            except NotAllowed as problem:
                yield _fault(problem)
                return
            yield b"".join(batch)
        if pump.cancelled():
            yield _fault(Unreachable("the server leaves", fix="follow it again when it is back"))
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
