"""A job as the REST API shows it, read through a client: the source of what trackers get."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import convoy
from convoy import errors
from convoy.admin import download, job_reference
from convoy.errors import NotAllowed, NotFound, Unreachable
from convoy.trackers import events
from convoy.trackers.events import About, End, Point, Round
from convoy.wire.backoff import Patience

if TYPE_CHECKING:
    from convoy.admin import views
    from convoy.admin.client import Client

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobSource:
    """Implements `port.Source` for one job; `tell` hears what the client's person may not read."""

    client: Client
    job: str
    tell: Callable[[str], None]
    with_results: bool = True

    async def about(self) -> About:
        """Return the job's facts. A job's id is the digest of the signed list of its files."""
        detail = await self._patiently(lambda: self.client.job(self.job, brief=True))
        record = detail.job
        tags = {
            "convoy.job": record.id,
            "convoy.name": record.name,
            "convoy.project": self.client.project,
            "convoy.submitter": record.submitter,
            "convoy.org": record.org,
            "convoy.bundle": record.id,
            "convoy.version": convoy.__version__,
        }
        return About(
            job=record.id,
            name=record.name,
            project=self.client.project,
            submitted_at=record.submitted_at,
            params=events.params_of(detail.spec),
            tags={name: events.text(value) for name, value in tags.items()},
        )

    async def progress(self, after: int) -> AsyncGenerator[Round | End, None]:
        """Yield the job's rounds, each with all of its sites, and its end."""
        async with aclosing(self.client.watch(self.job, after=after)) as items:
            async for item in items:
                for made in item.rounds:
                    whole = made
                    if made.took_part_count > len(made.took_part) or made.left_out_count > len(made.left_out):
                        whole = await self._patiently(partial(self.client.round, self.job, made.round))
                    yield _round(whole)
                if item.job.state in job_reference.ENDED and not item.more:
                    yield await self._end(item.job)

    async def _end(self, record: views.JobView) -> End:
        detail = await self._patiently(lambda: self.client.job(self.job, brief=True))
        members = sorted(member.site for member in detail.members)
        tags = {"convoy.state": record.state, "convoy.cause": record.cause, "convoy.sites": ", ".join(members)}
        return End(record.state, record.cause, record.ended_at, {key: events.text(said) for key, said in tags.items()})

    async def points(self, after: Mapping[str, int]) -> AsyncGenerator[Point, None]:
        """Yield the job's live metrics; none where the person may not read them."""
        try:
            async with aclosing(self.client.points(self.job, follow=True)) as items:
                async for one in items:
                    if one.number > after.get(one.site, -1):
                        yield Point(one.site, one.number, one.at, one.round, one.values, one.step, one.phase)
        except NotAllowed as problem:
            self.tell(f"live metrics are not tracked: {errors.line(problem)}")

    async def results(self, folder: Path) -> Path | None:
        """Fetch the job's results."""
        if not self.with_results:
            return None
        try:
            await self.client.fetch(self.job, folder)
        except NotFound:
            return None
        except NotAllowed as problem:
            self.tell(f"the results are not tracked: {errors.line(problem)}")
            return None
        (folder / download.OWNER).unlink()
        return folder

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what a question is answered with; one that was lost is asked again, as streams are."""
        patience = Patience(self.client.patience_s)
        while True:
            try:
                return await ask()
            except Unreachable as problem:
                await patience.wait(problem)


def _round(made: views.RoundView) -> Round:
    return Round(
        number=made.round,
        at=made.committed_at,
        metrics={key: value for key, value in made.metrics.items() if math.isfinite(value)},
        best=made.best,
        committed=bool(made.model),
        took_part=tuple((one.site, one.weight) for one in made.took_part if math.isfinite(one.weight)),
        left_out=tuple((one.site, one.reason) for one in made.left_out),
    )
