"""The log of a job: its newest lines as they come, searched in the browser, and the whole of it as a file."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from convoy.admin import streams
from convoy.admin.views import LogLine
from convoy.dashboard import live, tabs, watching
from convoy.dashboard.merging import beside
from convoy.dashboard.route import Call, Route
from convoy.dashboard.streams import Event
from convoy.spec.printable import one_line

MAX_LINES: Final = 2000  # newest lines on the page
MAX_CHARACTERS: Final = 2000  # of one line there; the file has all of it


async def logs(call: Call) -> Response:
    """Show the log of a job; its lines come with the page's stream."""
    detail = await call.client.job(tabs.job_id(call), brief=True)
    sites = ["server", *(member.site for member in detail.members)]
    return await tabs.page(
        call,
        "job/logs.html",
        detail,
        sites=sites,
        site=call.query("site"),
        most=MAX_LINES,
        live=f"/jobs/{detail.job.id}/logs/live?{urlencode({'site': call.query('site')})}",
    )


async def watch(call: Call) -> Response:
    """Push the head of the page, and the lines of the log as they come."""
    job = tabs.job_id(call)
    return live.push(call, watching.events(call, job, {}, _lines(call, job, call.query("site"))))


async def _lines(call: Call, job: str, site: str) -> AsyncGenerator[Event, None]:
    """Yield lines, those that have come since the last event together; a slow browser gets the newest of them."""
    tail: deque[list[str]] = deque(maxlen=MAX_LINES)
    news = asyncio.Event()

    async def read() -> None:
        async with aclosing(call.client.logs(job, site=site or None, follow=True)) as found:
            async for line in found:
                tail.append([line.site, shown(line)])
                news.set()

    async with beside(read(), news) as reading:
        while tail or not reading.done():
            await news.wait()
            news.clear()
            batch = list(tail)
            tail.clear()
            if batch:
                yield Event("lines", json.dumps(batch))
        reading.result()


def shown(line: LogLine) -> str:
    """Return the text of a line as the page shows it."""
    more = len(line.text) - MAX_CHARACTERS
    return one_line(line.text[:MAX_CHARACTERS]) + (f" … {more:,} more characters" if more > 0 else "")


async def whole(call: Call) -> Response:
    """Send the log as a file."""
    job, site = tabs.job_id(call), call.query("site")
    chunks = await streams.begun(_text(call, job, site))
    name = f"{job[:8]}{'-' + site if site.replace('-', '').isalnum() else ''}.log"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(chunks, media_type="text/plain; charset=utf-8", headers=headers)


async def _text(call: Call, job: str, site: str) -> AsyncGenerator[bytes, None]:
    async with aclosing(call.client.logs(job, site=site or None)) as found:
        async for line in found:
            lead = "" if site else f"{line.site} | "
            yield f"{lead}{one_line(line.text)}\n".encode()


ROUTES: Final = (
    Route("GET", "/jobs/{job}/logs", logs),
    Route("GET", "/jobs/{job}/logs/live", watch),
    Route("GET", "/jobs/{job}/logs/all", whole),
)
