"""Server-sent events as answers: bounded in number, ended with the browser or with the dashboard.

A stream is a generator that is asked for its next event when the browser has taken the last one. So a slow browser
delays its own stream, and nothing gathers in a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from convoy.errors import ConvoyError, Refused

MAX_STREAMS: Final = 64  # open at the same time; a browser opens six to one address
FAULT: Final = "fault"  # the event whose data says why a stream ended


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name, and a text, mostly HTML that htmx puts into the element with `sse-swap` of this name."""

    name: str
    data: str

    def encoded(self) -> bytes:
        """Return the event as it is sent; a data line of its own for each line, so that none ends the event."""
        lines = str(self.data).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return "".join((f"event: {self.name}\n", *(f"data: {line}\n" for line in lines), "\n")).encode()


@dataclass(slots=True)
class Sent:
    """The texts that a page was sent last, by name."""

    texts: dict[str, str] = field(default_factory=dict)

    def fresh(self, texts: Mapping[str, str]) -> list[Event]:
        """Return an event for each text that is not the one that was sent last under its name."""
        found = [Event(name, text) for name, text in texts.items() if self.texts.get(name) != text]
        self.texts |= texts
        return found


@dataclass(slots=True)
class Streams:
    """The streams that are open; `closing` ends them all when the dashboard ends."""

    closing: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0


class _Pushing(StreamingResponse):
    """An answer of events that gives up its place among the open streams however it ends."""

    def __init__(self, streams: Streams, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        self._streams.open += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1


def push(streams: Streams, events: AsyncGenerator[Event, None], told: Callable[[ConvoyError], str]) -> Response:
    """Return an answer that sends the events until the browser goes.

    An error ends it with the event `fault`, whose HTML `told` makes. Raises `Refused` when too many streams are open.
    """
    if streams.open >= MAX_STREAMS:
        raise Refused(
            "too many live pages are open", why=f"at most {MAX_STREAMS}", fix="close some and reload this one"
        )
    return _Pushing(streams, _sent(_until(events, streams.closing), told))


async def _sent(events: AsyncGenerator[Event, None], told: Callable[[ConvoyError], str]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        try:
            async for event in events:
                yield event.encoded()
        except ConvoyError as problem:
            yield Event(FAULT, told(problem)).encoded()


async def _until(events: AsyncGenerator[Event, None], closing: asyncio.Event) -> AsyncGenerator[Event, None]:
    """Yield the events until there are no more, or the dashboard ends."""
    ended = asyncio.ensure_future(closing.wait())
    coming: asyncio.Future[Event] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(events))
            await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        ended.cancel()
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.wait({coming})
        await events.aclose()
