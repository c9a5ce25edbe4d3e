"""How the federation is now, as the dashboard saw it last: read from the server in this process, pushed to pages.

The REST API pushes what happens in a job, and nothing about the federation as a whole. So this process asks for that,
every few seconds, once for all open pages; browsers never ask again by themselves.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from convoy import errors
from convoy.admin import meant
from convoy.admin.client import Client
from convoy.admin.views import JobView, LogLine, PersonView, ServerView, SiteView
from convoy.dashboard.latest import Latest
from convoy.dashboard.strips import Counts, Hour, Standing
from convoy.errors import ConvoyError

INTERVAL_S: Final = 3.0  # between two looks at the server
NEWEST: Final = 10  # jobs on the overview
LOOKED_AT: Final = 500  # newest jobs among which the ones that have not ended are looked for
LEAVES_S: Final = 10.0  # within which a site that was revoked is disconnected, and then seen for the last time
PROBLEMS: Final = 20  # lines on the overview


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at the server found; `fault`: why the newest look failed, while the rest is of the last good one.

    `at` is seconds since the epoch, 0 before the first look that succeeded.
    """

    at: float = 0.0
    person: PersonView | None = None
    server: ServerView | None = None
    sites: tuple[SiteView, ...] = ()
    active: tuple[JobView, ...] = ()
    newest: tuple[JobView, ...] = ()
    problems: tuple[LogLine, ...] = ()
    fault: ConvoyError | None = None

    @property
    def person_mark(self) -> str:
        """A word that differs for another person or role, empty while nobody knows who the person is."""
        text = self.person.model_dump_json() if self.person else ""
        return sha256(text.encode()).hexdigest()[:16] if text else ""

    def standing(self, site: SiteView) -> Standing:
        """Return in one word how a site is; nobody knows while the server does not answer."""
        return "unknown" if self.fault else standing(site)


@dataclass(slots=True)
class Pulse:
    """Looks at the server for as long as `run` runs, and tells every page that waits for a newer look."""

    client: Client
    interval_s: float = INTERVAL_S
    latest: Latest[Seen] = field(default_factory=lambda: Latest(Seen()))
    hour: Hour = field(default_factory=Hour)

    @property
    def seen(self) -> Seen:
        """What was seen last."""
        return self.latest.value

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self.interval_s)

    async def look(self) -> None:
        """Look once; a server that does not answer is remembered as such."""
        try:
            found = await self._ask()
        except (ConvoyError, OSError) as problem:  # the second: of the kit, as on a full disk
            self.hour.lose(time.time())
            found = replace(self.seen, fault=errors.shown(problem))
        else:
            self._remember(found)
        await self.latest.tell(found)

    async def _ask(self) -> Seen:
        person = await self.client.me()
        server = await self.client.status()
        sites = await self.client.sites()
        newest, active = await self._jobs(server.jobs_running + server.jobs_waiting)
        problems = await self.client.problems(PROBLEMS)
        return Seen(time.time(), person, server, tuple(sites), active, newest, tuple(reversed(problems)))

    async def _jobs(self, expected: int) -> tuple[tuple[JobView, ...], tuple[JobView, ...]]:
        """Return the newest jobs, and those of the `LOOKED_AT` newest that have not ended."""
        page = await self.client.job_page(limit=NEWEST * 5)
        newest, looked_at = tuple(page.jobs[:NEWEST]), len(page.jobs)
        active = [job for job in page.jobs if job.state not in meant.ENDED]
        while page.next and len(active) < expected and looked_at < LOOKED_AT:
            page = await self.client.job_page(after=page.next, limit=LOOKED_AT - looked_at)
            looked_at += max(len(page.jobs), 1)
            active += [job for job in page.jobs if job.state not in meant.ENDED]
        return newest, tuple(active)

    def _remember(self, seen: Seen) -> None:
        if seen.server is not None:
            running, waiting = seen.server.jobs_running, seen.server.jobs_waiting
            self.hour.count(Counts(seen.at, seen.server.sites_connected, running, waiting))
        self.hour.note(seen.at, {site.name: standing(site) for site in seen.sites})


def standing(site: SiteView) -> Standing:
    """Return in one word how a site is."""
    if not site.enabled:
        return "disabled"
    if site.connected:
        return "connected"
    return "revoked" if site.revoked_at > site.seen_at - LEAVES_S else "away"
