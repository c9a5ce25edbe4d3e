"""What an open page of a job is sent: parts that have changed, as the server's own stream of the job tells it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from convoy.admin import job_reference
from convoy.admin.views import JobDetail
from convoy.dashboard import feed, live, tabs
from convoy.dashboard.feed import Entry
from convoy.dashboard.merging import merged, paced
from convoy.dashboard.route import Call
from convoy.dashboard.streams import Event, Sent
from convoy.errors import Unreachable

PAUSE_S: Final = 1.0  # between two looks: in a large round, many sites answer in a second
MAX_NOTICED: Final = 100  # changes of sites that an open page remembers, newest first

Parts = Mapping[str, Callable[["Watched"], str]]  # a part of a page, as HTML, from the job as it is now


@dataclass(slots=True)
class Watched:
    """A job as one open page has seen it."""

    call: Call
    parts: Parts
    detail: JobDetail
    noticed: deque[Entry] = field(default_factory=lambda: deque(maxlen=MAX_NOTICED))
    _sent: Sent = field(default_factory=Sent)

    @property
    def going(self) -> bool:
        """Whether the job has not ended."""
        return self.detail.job.state not in job_reference.ENDED

    async def look(self) -> list[Event]:
        """Ask for the job and return the parts that have changed; nothing while the server does not answer."""
        try:
            now = await self.call.client.job(self.detail.job.id)
        except Unreachable:
            return []  # the banner says so
        self.noticed.extend(feed.changes(self.detail, now, time.time()))
        self.detail = now
        return self.changed()

    def changed(self) -> list[Event]:
        """Return the parts whose text is another one than before."""
        job = self.detail.job
        texts: dict[str, str] = {"head": tabs.head(self.call, job), "verbs": tabs.verbs(self.call, job)}
        texts |= {name: make(self) for name, make in self.parts.items()}
        return self._sent.fresh(texts)


async def events(call: Call, job: str, parts: Parts, *more: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """Yield a page's parts whenever the job has changed, what every page is sent, and the events of `more`.

    The event `round` comes after rounds were committed.
    """
    watched = Watched(call, parts, await call.client.job(job))
    async with aclosing(merged(_by_watch(watched), _by_pulse(watched), *more)) as found:
        async for event in found:
            yield event


async def _by_watch(watched: Watched) -> AsyncGenerator[Event, None]:
    """Yield what has changed whenever the stream of the job tells of a change, at most once in `PAUSE_S`."""
    job = watched.detail.job
    told = job.round

    async def rounds() -> AsyncGenerator[int, None]:
        """Yield the number of the newest round, with each change."""
        newest = told
        async with aclosing(watched.call.client.watch(job.id, after=newest)) as items:
            async for item in items:
                newest = item.rounds[-1].round if item.rounds else newest
                yield newest

    async with aclosing(paced(rounds(), PAUSE_S)) as found:
        async for newest in found:
            for event in await watched.look():
                yield event
            if newest != told:
                told = newest
                yield Event("round", str(newest))


async def _by_pulse(watched: Watched) -> AsyncGenerator[Event, None]:
    """Yield what every page is sent, and what the job's stream does not tell: the states of its sites."""
    async with aclosing(live.parts(watched.call, {})) as frame:
        async for event in frame:
            yield event
            if event.name == "pulse" and watched.going and not watched.call.services.federation_state.seen.fault:
                for part in await watched.look():
                    yield part
