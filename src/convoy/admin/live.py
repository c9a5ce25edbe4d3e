"""The handlers of routes of what grows: changes, a job's progress, log and live metrics, and the audit trail."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from convoy.admin import streams, views
from convoy.admin.reading import number, switch
from convoy.admin.route import Answer, Call
from convoy.trust import audit

PAGES: Final = 4  # items that wait for a watcher that reads slowly
PAGE: Final = 100  # records of the audit trail on a page, if the request gives no number
MAX_PAGE: Final = 500  # records on one page
MAX_SOUGHT: Final = 100  # characters of a text that records are searched for
MAX_PATTERN: Final = 256  # characters of a pattern of keys, which have at most 100


async def changes(call: Call) -> Answer:
    """Follow the federation."""
    return streams.lines(call.of.changes(), call.services.closing, waiting=1)


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


async def records(call: Call) -> Answer:
    """Send a page of the audit trail, newest first."""
    request, said = call.request, call.request.query_params
    texts = {name: said.get(name, "")[:MAX_SOUGHT] for name in ("actor", "action", "object", "outcome", "text")}
    since, until = number(request, "since", 0), number(request, "until", audit.MAX_NUMBER)
    before = min(number(request, "before", audit.MAX_NUMBER), audit.MAX_NUMBER)
    limit = min(max(number(request, "limit", PAGE), 1), MAX_PAGE)
    return await call.of.records(audit.Search(**texts, since=since, until=until), before, limit)
