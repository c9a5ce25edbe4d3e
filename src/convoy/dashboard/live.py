"""What open pages are sent: the parts of a page whose text has changed, for as long as the page is open."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress

from markupsafe import escape
from starlette.responses import Response

from convoy.dashboard import news, streams
from convoy.dashboard.federation_state import Seen
from convoy.dashboard.route import Call
from convoy.dashboard.streams import Event, Sent
from convoy.errors import Unreachable

Part = Callable[[Seen], Awaitable[str]]  # a part of a page, as HTML, from what was seen last


def push(call: Call, events: AsyncGenerator[Event, None]) -> Response:
    """Return an answer that sends the events until the browser goes; an error is shown on the page, and ends it."""
    return streams.push(call.services.streams, events, lambda problem: call.text("_fault.html", fault=problem))


async def parts(call: Call, made: Mapping[str, Part]) -> AsyncGenerator[Event, None]:
    """Yield each part of a page, under its name, whenever a look at the server has changed its text.

    Every stream has three more: `banner` says that the server does not answer, `news` says for screen readers what has
    changed, and `person` says who the person is, so that a page made for another role is made again. The event `pulse`
    comes after each look.
    """
    sent, before = Sent(), call.services.federation_state.seen
    async with aclosing(call.services.federation_state.latest.changes()) as changes:
        async for seen in changes:
            texts: dict[str, str] = {"fault": "", "banner": call.text("_banner.html", seen=seen)}
            texts["person"] = seen.person_mark
            if said := news.news(before, seen):
                texts["news"] = escape(said)
            before = seen
            if seen.at and not seen.fault:
                with suppress(Unreachable):  # the next look says so, and the page shows what was known last
                    for name, make in made.items():
                        texts[name] = await make(seen)
            for event in sent.fresh(texts):
                yield event
            yield Event("pulse", str(seen.at))
