"""How the federation is now, as the dashboard saw it last: read from the server in this process, pushed to pages.

The server's stream of changes says when to look. This process looks, once for all open pages; browsers never ask again
by themselves, and nothing is asked for by time alone.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from convoy import errors
from convoy.admin import job_reference
from convoy.admin.changes import PresenceView
from convoy.admin.client import Client
from convoy.admin.views import JobView, LogLine, PersonView, ServerView, SiteView
from convoy.control.presence import Standing
from convoy.dashboard.latest import Latest
from convoy.dashboard.merging import paced
from convoy.dashboard.strips import Counts, Hour
from convoy.errors import ConvoyError
from convoy.wire.backoff import Backoff

PAUSE_S: Final = 1.0  # between two looks at the server, however often it tells of a change
NEWEST: Final = 10  # jobs on the overview
LOOKED_AT: Final = 500  # newest jobs among which the ones that have not ended are looked for
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
        return "unknown" if self.fault else site.standing


@dataclass(slots=True)
class FederationState:
    """Looks at the server when this tells of a change, and tells every page that waits for a newer look."""

    client: Client
    latest: Latest[Seen] = field(default_factory=lambda: Latest(Seen()))
    hour: Hour = field(default_factory=Hour)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def seen(self) -> Seen:
        """What was seen last."""
        return self.latest.value

    async def run(self) -> None:
        """Look at each change, until cancelled; open the stream of changes again when it breaks or a look fails."""
        backoff = Backoff()
        while True:
            try:
                async with aclosing(paced(self.client.changes(), PAUSE_S)) as changes:
                    async for _ in changes:
                        await self.look()
                        if self.seen.fault:
                            break  # a new stream begins with an item, and so with another look
                        backoff.reset()
            except (ConvoyError, OSError) as problem:  # the second: of the kit, as on a full disk
                async with self._looking:
                    await self._lost(problem)
            await asyncio.sleep(backoff.pause_s())  # nothing reports when a lost server is back

    async def look(self) -> None:
        """Look once, after a look that is under way; a server that does not answer is remembered as such."""
        async with self._looking:
            try:
                found = await self._ask()
            except (ConvoyError, OSError) as problem:
                await self._lost(problem)
            else:
                self._remember(found)
                await self.latest.tell(found)

    async def _lost(self, problem: ConvoyError | OSError) -> None:
        self.hour.lose(time.time())
        await self.latest.tell(replace(self.seen, fault=errors.shown(problem)))

    async def _ask(self) -> Seen:
        if not self.seen.at or self.seen.fault:  # what happened meanwhile, only the server has seen
            self._learn(await self.client.presence())
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
        active = [job for job in page.jobs if job.state not in job_reference.ENDED]
        while page.next and len(active) < expected and looked_at < LOOKED_AT:
            page = await self.client.job_page(after=page.next, limit=LOOKED_AT - looked_at)
            looked_at += max(len(page.jobs), 1)
            active += [job for job in page.jobs if job.state not in job_reference.ENDED]
        return newest, tuple(active)

    def _learn(self, told: PresenceView) -> None:
        """Take over how the sites were, on this machine's clock."""
        ahead = told.now - time.time()
        sites = (
            (it.site, [(at - ahead, how) for at, how in zip(it.at, it.standing, strict=True)]) for it in told.sites
        )
        self.hour.learn(told.since - ahead, sites)

    def _remember(self, seen: Seen) -> None:
        if seen.server is not None:
            running, waiting = seen.server.jobs_running, seen.server.jobs_waiting
            self.hour.count(Counts(seen.at, seen.server.sites_connected, running, waiting))
        self.hour.note(seen.at, {site.name: site.standing for site in seen.sites})
