"""The pages My site and My data: how the site is, and what `data` in its node.yaml names."""

from __future__ import annotations

import time
from typing import Final

from starlette.responses import Response

import convoy
from convoy.dashboard import site_state
from convoy.dashboard.route import Route
from convoy.dashboard.site_state import Side, Turn
from convoy.owner import words
from convoy.owner.account import Account

SHOWN: Final = 5  # newest jobs of one name of data


async def site(turn: Turn) -> Response:
    """Show the site."""
    return turn.page("own/site.html", facts=await _facts(turn)(turn.seen))


async def watch_site(turn: Turn) -> Response:
    """Push the page as it changes."""
    return site_state.push(turn, {"facts": _facts(turn)})


def _facts(turn: Turn) -> site_state.Part:
    async def facts(seen: Side) -> str:
        running = [it for it in seen.accounts.jobs.values() if it.here and not it.ended]
        ended = [it for it in reversed(seen.accounts.jobs.values()) if it.ended][:SHOWN]
        now = time.time()
        return turn.text("own/_site.html", running=running, ended=ended, version=convoy.__version__, moment=now)

    return facts


async def data(turn: Turn) -> Response:
    """Show what the site's jobs may be given."""
    return turn.page("own/data.html", rows=await _rows(turn)(turn.seen))


async def watch_data(turn: Turn) -> Response:
    """Push the list as it changes."""
    return site_state.push(turn, {"rows": _rows(turn)})


def _rows(turn: Turn) -> site_state.Part:
    async def rows(seen: Side) -> str:
        jobs: dict[str, list[Account]] = {}
        for account in reversed(seen.accounts.jobs.values()):
            for name in account.data:
                jobs.setdefault(name, []).append(account)
        listed = [(it, words.rules_text(it.rules) if it.rules else "", jobs.get(it.name, [])) for it in seen.data]
        return turn.text("own/_data.html", listed=listed, most=SHOWN)

    return rows


ROUTES: Final = (
    Route("GET", "/", site),
    Route("GET", "/live", watch_site),
    Route("GET", "/data", data),
    Route("GET", "/data/live", watch_data),
)
