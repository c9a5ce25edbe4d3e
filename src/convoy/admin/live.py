"""The handlers of routes that answer with a stream: a job's progress, log and live metrics, and the audit trail."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from convoy.admin import streams, views
from convoy.admin.reading import number, switch
from convoy.admin.route import Answer, Call

PAGES: Final = 4  # items that wait for a watcher that reads slowly
MAX_PATTERN: Final = 256  # characters of a pattern of keys, which have at most 100


async def watch(call: Call) -> Answer:
    """Follow a job."""
    after = number(call.request, "after", -1, least=-1)
    items = _told(call, call.of.watch(call.path("job"), after))
    return streams.lines(items, call.services.closing, waiting=PAGES)


async def _told(call: Call, items: AsyncGenerator[views.Progress, None]) -> AsyncGenerator[views.Progress, None]:
    """Yield the job's progress; a traceback belongs to the logs, which not everybody who may see the job may read."""
    async with aclosing(items):
        async for item in items:
            yield item if call.grant.may("logs") else item.model_copy(update={"traceback": ""})


async def logs(call: Call) -> Answer:
    """Show a job's log."""
    site = call.request.query_params.get("site") or None
    found = call.of.logs(call.path("job"), site, switch(call.request, "follow"))
    return streams.lines(found, call.services.closing)


async def points(call: Call) -> Answer:
    """Show a job's live metrics."""
    query, limit = call.request.query_params, number(call.request, "limit", 0)
    found = call.of.points(
        call.path("job"),
        query.get("site") or None,
        query.get("key", "")[:MAX_PATTERN],
        number(call.request, "after", -1, least=-1),
        switch(call.request, "follow"),
    )
    return streams.lines(_first(found, limit) if limit else found, call.services.closing)


async def _first(items: AsyncGenerator[views.PointView, None], limit: int) -> AsyncGenerator[views.PointView, None]:
    async with aclosing(items):
        async for item in items:
            yield item
            limit -= 1
            if not limit:
                return


async def trail(call: Call) -> Answer:
    """Send the audit trail."""
    return streams.lines(call.of.trail(number(call.request, "since", 0)), call.services.closing)
