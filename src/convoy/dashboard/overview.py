"""The overview: the server, the sites of the last hour, jobs that run, newest jobs, problems."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from starlette.responses import JSONResponse, Response

from convoy.control.presence import Standing
from convoy.dashboard import live
from convoy.dashboard.federation_state import Seen
from convoy.dashboard.route import Call, Route
from convoy.dashboard.strips import SPAN_S

SHOWN: Final = 24  # sites with their strips; the page of sites has them all
ORDER: Final[dict[Standing, int]] = {"revoked": 1, "away": 0, "unknown": 2, "connected": 3, "disabled": 4}
PARTS: Final = ("server", "strips", "active", "newest", "problems")


async def overview(call: Call) -> Response:
    """Show the page."""
    seen = call.services.federation_state.seen
    texts = {name: await _part(call, name, seen) for name in PARTS} if seen.at else {}
    return call.page("overview.html", parts=texts)


async def watch(call: Call) -> Response:
    """Push what changes on the page."""
    made = {name: partial(_part, call, name) for name in PARTS}
    return live.push(call, live.parts(call, made))


async def _part(call: Call, name: str, seen: Seen) -> str:
    values: dict[str, object] = {"seen": seen}
    if name == "strips":
        now, hour = time.time(), call.services.federation_state.hour
        chosen = sorted(seen.sites, key=lambda site: (ORDER[seen.standing(site)], site.name))[:SHOWN]
        rows = [(site, seen.standing(site), hour.strip(site.name, now)) for site in chosen]
        values |= {"rows": rows, "more": len(seen.sites) - len(rows), "since": hour.known_since(now)}
    return call.text(f"overview/_{name}.html", **values)


async def series(call: Call) -> Response:
    """Return how many sites and jobs there were in the last hour, for a chart."""
    counts, now = list(call.services.federation_state.hour.counts), time.time()
    times = [it.at for it in counts]
    return JSONResponse(
        {
            "whole": True,
            "x": {"label": "Time", "kind": "time", "values": times, "from": now - SPAN_S, "to": now},
            "series": [
                {"label": "Sites connected", "values": [it.connected for it in counts]},
                {"label": "Jobs running", "values": [it.running for it in counts]},
                {"label": "Jobs waiting", "values": [it.waiting for it in counts]},
            ],
        }
    )


ROUTES: Final = (
    Route("GET", "/", overview),
    Route("GET", "/overview/live", watch),
    Route("GET", "/overview/series", series),
)
