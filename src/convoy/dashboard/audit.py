"""The audit trail: who did what, newest first, with filters; the state of its verification; the trail as a file."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from starlette.responses import RedirectResponse, Response, StreamingResponse

from convoy.dashboard import live
from convoy.dashboard.federation_state import Seen
from convoy.dashboard.route import Call, Route
from convoy.dashboard.streams import Event
from convoy.trust import audit

PAGE: Final = 50  # records on a page
TEXTS: Final = ("actor", "action", "object", "outcome", "text")
TIMES: Final = ("since", "until")
MAX_SEQ: Final = 16  # digits of a record's number that is asked for
ACTIONS: Final = (  # that the form offers; any other may be typed
    *("abort", "authority", "clone", "delete", "disable", "download", "enable", "enrol", "federation", "invite"),
    *("join", "login", "logout", "more", "refuse", "renew", "restart", "revoke", "start", "stop", "submit"),
)
_JOB: Final = re.compile(r"job:([0-9a-f]{32})")


async def trail(call: Call) -> Response:
    """Show a page of records."""
    rows, asked = await _rows(call), _asked(call)
    part = call.request.headers.get("hx-target") == "rows"
    return call.page(
        "audit/_rows.html" if part else "audit.html",
        rows=rows,
        live=_live(call),
        asked=asked,
        actions=ACTIONS,
        verification=call.text("audit/_verification.html", state=call.services.verification),
    )


async def watch(call: Call) -> Response:
    """Push the newest page as it changes, and how far the trail is verified."""
    return live.push(call, _events(call))


async def _events(call: Call) -> AsyncGenerator[Event, None]:
    async def rows(_seen: Seen) -> str:
        return await _rows(call)

    state, sent = call.services.verification, ""
    made = {} if _before(call) else {"rows": rows}
    async with aclosing(live.parts(call, made)) as parts:
        async for event in parts:
            yield event
            if event.name != "pulse":
                continue
            more = True
            while more:
                more = await state.advance()
                text = call.text("audit/_verification.html", state=state)
                if text != sent:
                    sent = text
                    yield Event("verification", text)


async def again(call: Call) -> Response:
    """Verify the trail again from its first record on."""
    await call.services.verification.again()
    return RedirectResponse("/audit", 303)


async def save(call: Call) -> Response:
    """Send the whole trail as the file that `convoy audit save` writes; a download that fails is not complete."""
    await call.client.records(audit.Search(), limit=1)  # an error is a page, and no broken download
    name = f"audit-{call.client.project}.jsonl"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_lines(call), media_type="application/jsonl", headers=headers)


async def _lines(call: Call) -> AsyncIterator[str]:
    async with aclosing(call.client.audit()) as entries:
        async for entry in entries:
            yield f"{audit.line(entry)}\n"


def _asked(call: Call) -> dict[str, str]:
    """Return what the form says; a time that is none says nothing."""
    said = {name: call.query(name) for name in TEXTS}
    return said | {name: text if _moment(text := call.query(name)) else "" for name in TIMES}


def _wanted(asked: dict[str, str]) -> audit.Search:
    return audit.Search(
        **{name: asked[name] for name in TEXTS},
        since=_moment(asked["since"]),
        until=_moment(asked["until"]) or audit.MAX_NUMBER,
    )


def _moment(text: str) -> int:
    """Return a time of the local calendar, as a browser's form writes it, in milliseconds since the epoch; 0: none."""
    try:
        at = int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return 0
    return at if 0 < at < audit.MAX_NUMBER else 0


def _before(call: Call) -> int:
    """Return the number under which records are asked for; 0: the newest."""
    text = call.query("before")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < MAX_SEQ else 0


def _given(call: Call) -> dict[str, str]:
    return {name: text for name, text in _asked(call).items() if text}


def _live(call: Call) -> str:
    before = {"before": _before(call)} if _before(call) else {}
    return f"/audit/live?{urlencode(_given(call) | before)}"


async def _rows(call: Call) -> str:
    before, given = _before(call), _given(call)
    page = await call.client.records(_wanted(_asked(call)), before=before, limit=PAGE)
    return call.text(
        "audit/_table.html",
        rows=[(it, _link(it.object)) for it in page.records],
        older=f"/audit?{urlencode(given | {'before': page.next})}" if page.next else "",
        newest=f"/audit?{urlencode(given)}" if before else "",
        lowest=page.next,
        searched=bool(given),
    )


def _link(thing: str) -> str:
    """Return the page of what a record is about, if there is one."""
    if found := _JOB.match(thing):
        return f"/jobs/{found[1]}"
    return f"/sites/{quote(thing.removeprefix('site:'), safe='')}" if thing.startswith("site:") else ""


ROUTES: Final = (
    Route("GET", "/audit", trail),
    Route("GET", "/audit/live", watch),
    Route("GET", "/audit/save", save),
    Route("POST", "/audit/verify", again),
)
