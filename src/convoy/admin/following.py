"""Streams that a client follows: changes as they come; of a job, over breaks, each round, line and metric once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from convoy.admin import job_reference, link, parsing
from convoy.admin.faults import LoginNeeded
from convoy.errors import Unreachable
from convoy.wire.backoff import Patience

if TYPE_CHECKING:
    from convoy.admin import views
    from convoy.admin.changes import ChangeView


class Open(Protocol):
    """The client's method to get bytes."""

    def __call__(self, method: str, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the chunks of the answer."""
        ...


async def changes(ask: Open) -> AsyncGenerator[ChangeView, None]:
    """Yield an item at once and after changes of the federation. Raises `Unreachable` when the stream breaks."""
    from convoy.admin.changes import ChangeView

    async with ask("GET", "/changes") as chunks:
        async for line in link.lines(chunks):
            yield parsing.one(ChangeView, line)
    raise _early()


async def watch(ask: Open, job: str, after: int, patience_s: float) -> AsyncGenerator[views.Progress, None]:
    """Yield the job at once and after each change until it has ended; of its rounds those after a number."""
    from convoy.admin import views

    told, path = after, link.path("jobs", job, "watch")
    async with aclosing(_persistent(ask, lambda: f"{path}?after={told}", patience_s)) as lines:
        async for line in lines:
            if line is None:
                continue
            progress = parsing.one(views.Progress, line)
            parsing.same("the job", progress.job.id, job)
            fresh = [made for made in progress.rounds if made.round > told]
            told = max([told, *(made.round for made in fresh)])
            yield progress.model_copy(update={"rounds": fresh})
            if progress.job.state in job_reference.ENDED and not progress.more:
                return


async def logs(
    ask: Open, job: str, *, site: str | None, live: bool, patience_s: float
) -> AsyncGenerator[views.LogLine, None]:
    """Yield the job's log lines; those of a `live` log until the job has ended."""
    from convoy.admin import views

    query = urlencode({"follow": str(live).lower()} | ({"site": site} if site else {}))
    told: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    path = f"{link.path('jobs', job, 'logs')}?{query}"
    async with aclosing(_persistent(ask, lambda: path, patience_s, to_the_end=True)) as lines:
        async for data in lines:
            if data is None:
                seen.clear()
                continue
            line = parsing.one(views.LogLine, data)
            seen[line.site] += 1
            if seen[line.site] > told[line.site]:
                told[line.site] += 1
                yield line


async def points(
    ask: Open, job: str, *, site: str | None, key: str, live: bool, patience_s: float
) -> AsyncGenerator[views.PointView, None]:
    """Yield the job's live metrics; those of a `live` job until it has ended."""
    from convoy.admin import views

    query = urlencode({"follow": str(live).lower(), "key": key} | ({"site": site} if site else {}), errors="replace")
    told: dict[str, int] = {}
    path = f"{link.path('jobs', job, 'points')}?{query}"

    def rest() -> str:
        """Return the path of what is not told yet: of one site it has a number, of many each point comes again."""
        return f"{path}&after={told[site]}" if site in told else path

    async with aclosing(_persistent(ask, rest, patience_s, to_the_end=True)) as lines:
        async for data in lines:
            if data is None:
                continue
            point = parsing.one(views.PointView, data)
            if point.number > told.get(point.site, -1):
                told[point.site] = point.number
                yield point


async def _persistent(
    ask: Open, path: Callable[[], str], patience_s: float, *, to_the_end: bool = False
) -> AsyncGenerator[bytes | None, None]:
    """Yield a stream's lines, and None whenever it starts again after a break, from the `path` of that time.

    With `to_the_end`, the end of the stream ends this; without, the stream was interrupted and starts again.
    """
    patience = Patience(patience_s)
    while True:
        try:
            async with ask("GET", path()) as chunks:
                yield None
                async for line in link.lines(chunks):
                    patience.success()
                    yield line
            if to_the_end:
                return
            await patience.wait(_early())
        except LoginNeeded as problem:
            await patience.wait(Unreachable(problem.what, why=problem.why, fix=problem.fix))
        except Unreachable as problem:
            await patience.wait(problem)


def _early() -> link.Broken:
    return link.Broken("the server ended the stream early")
