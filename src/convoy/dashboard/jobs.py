"""The list of jobs: a page at a time, searched by the beginning of a name or an id."""

from __future__ import annotations

import re
from typing import Final

from starlette.responses import Response

from convoy.dashboard import live
from convoy.dashboard.federation_state import Seen
from convoy.dashboard.route import Call, Route

PAGE: Final = 50  # jobs on a page
ID: Final = re.compile(r"[0-9a-f]{32}")


async def jobs(call: Call) -> Response:
    """Show a page of jobs."""
    rows = await _rows(call)
    template = "jobs/_rows.html" if call.request.headers.get("hx-target") == "rows" else "jobs.html"
    return call.page(template, rows=rows, begins=call.query("begins"), after=_after(call))


async def watch(call: Call) -> Response:
    """Push the page of jobs as it changes."""

    async def rows(_seen: Seen) -> str:
        return await _rows(call)

    return live.push(call, live.parts(call, {"rows": rows}))


async def _rows(call: Call) -> str:
    begins, after = call.query("begins"), _after(call)
    page = await call.client.job_page(begins=begins, after=after, limit=PAGE)
    return call.text("jobs/_table.html", page=page, begins=begins, after=after)


def _after(call: Call) -> str:
    """Return the id of the last job of the page before; empty for the first page."""
    after = call.query("after")
    return after if ID.fullmatch(after) else ""


ROUTES: Final = (
    Route("GET", "/jobs", jobs),
    Route("GET", "/jobs/live", watch),
)
