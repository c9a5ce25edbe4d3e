"""What people follow at a server: changes of the federation as a whole; progress, log and live metrics of a job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

from convoy.admin import views
from convoy.admin.changes import ChangeView
from convoy.control.transitions import ENDED
from convoy.control.view import ReadOnlyJob
from convoy.errors import NotFound
from convoy.server.logs import JobLogs, pages
from convoy.server.loop import Loop
from convoy.server.reading import JobReader
from convoy.server.views import job_view, point_view, round_view
from convoy.trust.federation import Membership

TOGETHER_S: Final = 0.05  # changes within this time are told as one: a round of a small model takes less
PAUSE_S: Final = 1.0  # between two items about the federation as a whole: who hears one asks for much
QUIET_S: Final = 30.0  # after which an item comes without a change, so that ages on a page stay fresh


@dataclass(frozen=True, slots=True)
class Following:
    """The streams of `admin.port.Coordinator`: each waits for changes, and none has a queue."""

    loop: Loop
    reader: JobReader
    membership: Membership
    logs_of: Callable[[str], JobLogs]

    async def changes(self) -> AsyncGenerator[ChangeView, None]:
        """Yield an item at once, and then after changes that people may see; a slow reader hears of many as of one."""
        while True:
            event = self.loop.next_change()
            yield ChangeView(number=self.loop.changes, at=time.time())
            await _due(event)

    async def watch(self, job: str, after: int) -> AsyncGenerator[views.Progress, None]:
        """Yield the job at once and after each change, until it has ended; of its rounds those after a number."""
        live = self.reader.live(job)
        if live is not None:
            async with aclosing(self._going(live, after)) as items:
                async for item in items:
                    after = max([after, *(made.round for made in item.rounds)])
                    yield item
            await self.loop.settled()
        async with aclosing(self.reader.past(job, after)) as items:
            async for item in items:
                yield item

    async def _going(self, live: ReadOnlyJob, after: int) -> AsyncGenerator[views.Progress, None]:
        """Yield the job at once and after each change, as long as it has not ended."""
        event = asyncio.Event()
        leave = self.loop.subscribe(live.record.id, event)
        told = after
        said: tuple[views.JobView | None, str] = (None, "")
        try:
            while not live.over:
                event.clear()
                line, traceback = job_view(live, self.loop.machine.state.problem), live.record.traceback
                rounds, more = await self.reader.news(live, told)
                told = rounds[-1].round if rounds else told
                if rounds or (line, traceback) != said:  # many changes of a job are not visible to people
                    shown = [round_view(record) for record in rounds]
                    news = "" if traceback == said[1] else traceback
                    yield views.Progress(job=line, rounds=shown, traceback=news, more=more)
                said = (line, traceback)
                if not more:
                    await _changed(live, event)
        finally:
            leave()

    async def logs(self, job: str, site: str | None, follow: bool) -> AsyncGenerator[views.LogLine, None]:
        """Yield the job's log lines; with `follow`, until the job has ended."""
        live = await self._followed(job, site, follow)
        logs = self.logs_of(job)
        if live is not None:
            async for name, line in logs.follow(site, lambda: live.over):
                yield views.LogLine(site=name, text=line)
        else:
            found_pages = pages(logs.lines(site))
            while page := await asyncio.to_thread(next, found_pages, ()):
                for name, line in page:
                    yield views.LogLine(site=name, text=line)

    async def _followed(self, job: str, site: str | None, follow: bool) -> ReadOnlyJob | None:
        """Return the job if it goes on and is to be followed. Raises `NotFound` for an unknown job or site."""
        over = (await self.reader.record(job)).state in ENDED
        if site is not None and site != "server" and site not in self.loop.machine.state.sites:
            raise no_site(self.membership, site)
        return self.reader.live(job) if follow and not over else None

    async def points(
        self, job: str, site: str | None, key: str, after: int, follow: bool
    ) -> AsyncGenerator[views.PointView, None]:
        """Yield the job's live metrics; see `port.Coordinator`."""
        live = await self._followed(job, site, follow)
        over = (lambda: True) if live is None else (lambda: live.over)
        async with aclosing(self.logs_of(job).points.read(site, key, after, over)) as found:
            async for name, point in found:
                yield point_view(name, point)


def no_site(membership: Membership, site: str) -> NotFound:
    """Return the error that a site is not there."""
    listed = ", ".join(membership.now.sites()) or "none"
    why = f"federation.json number {membership.now.number} lists: {listed}"
    return NotFound(f"there is no site {site!r}", why=why, fix="convoy site list")


async def _due(event: asyncio.Event) -> None:
    """Wait until the next item is due: soon after a change, `PAUSE_S` from now at the earliest; else in `QUIET_S`."""
    clock = asyncio.get_running_loop()
    earliest = clock.time() + PAUSE_S
    with suppress(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            await event.wait()
    await asyncio.sleep(max(earliest - clock.time(), TOGETHER_S))  # others may follow at once


async def _changed(live: ReadOnlyJob, event: asyncio.Event) -> None:
    """Wait for a change of a job, and for those that follow it at once; its end is not waited with."""
    await event.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(TOGETHER_S):
            while not live.over:
                event.clear()
                await event.wait()
