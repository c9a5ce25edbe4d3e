"""A local port that leads to a pod through the API server: one WebSocket for each connection, ended at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from httpx_ws import AsyncWebSocketSession

Dial = Callable[[], AbstractAsyncContextManager["AsyncWebSocketSession"]]
CHUNK: Final = 32 << 10  # bytes in one message: what the API server itself sends at most
DATA, TROUBLE = 0, 1  # the channels of a forwarded port: the first byte of each message


@asynccontextmanager
async def forwarded(dial: Dial) -> AsyncIterator[int]:
    """Give a port of this machine's loopback; each connection to it is carried over what `dial` opens."""
    carried = set[asyncio.Task[None]]()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_carry(dial, reader, writer))
        carried.add(task)
        task.add_done_callback(carried.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        ending = list(carried)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


async def _carry(dial: Dial, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one connection until either end is over. One that breaks is closed: whoever made it sees that, and why."""
    import httpx
    import httpx_ws

    try:
        async with dial() as line:
            ways = {asyncio.create_task(_out(reader, line)), asyncio.create_task(_in(line, writer))}
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
    except (httpx_ws.HTTPXWSException, httpx.HTTPError, OSError, ExceptionGroup):
        return  # the pod is gone or not there yet: the connection ends without an answer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _out(reader: asyncio.StreamReader, line: AsyncWebSocketSession) -> None:
    while data := await reader.read(CHUNK):
        await line.send_bytes(bytes([DATA]) + data)


async def _in(line: AsyncWebSocketSession, writer: asyncio.StreamWriter) -> None:
    greeted = set[int]()  # the first message of each channel says its port, which we know
    while True:
        message = await line.receive_bytes()
        channel, data = message[0], message[1:]
        if channel not in greeted:
            greeted.add(channel)
        elif channel == TROUBLE:
            return
        else:
            writer.write(data)
            await writer.drain()
