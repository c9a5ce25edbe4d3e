"""Sources of events: several as one, each asked when the browser has taken its last event; or one, not too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from convoy.dashboard.streams import Event

T = TypeVar("T")


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], news: asyncio.Event) -> AsyncIterator[asyncio.Task[None]]:
    """Run something while the context lasts; `news` is set when it has ended. Its error is for whom asks the task."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: news.set())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def paced(items: AsyncGenerator[T, None], pause_s: float) -> AsyncGenerator[T, None]:
    """Yield the newest item when there is a new one, at most once in `pause_s`; whatever came meanwhile is left out.

    The items are read while the caller is busy. Their end ends this, and their error is raised here.
    """
    news, newest = asyncio.Event(), list[T]()

    async def read() -> None:
        async with aclosing(items):
            async for item in items:
                newest[:] = [item]
                news.set()

    async with beside(read(), news) as reading:
        while newest or not reading.done():
            await news.wait()
            news.clear()
            if newest:
                yield newest.pop()
                await asyncio.wait({reading}, timeout=pause_s)
        reading.result()


async def merged(*sources: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """Yield the events of all sources as they come, until all have ended; an error of one ends all of them."""
    coming = {_next(source): source for source in sources}
    try:
        while coming:
            await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for it in [it for it in coming if it.done()]:
                source = coming.pop(it)
                try:
                    event = it.result()
                except StopAsyncIteration:
                    continue
                yield event
                coming[_next(source)] = source
    finally:
        for it in coming:
            it.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for source in sources:
            await source.aclose()


def _next(source: AsyncGenerator[Event, None]) -> asyncio.Future[Event]:
    return asyncio.ensure_future(anext(source))
