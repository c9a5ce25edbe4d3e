"""Reads jobs for people: open ones from memory, ended ones and histories from the ledger."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass
from typing import Final

from convoy.admin import views
from convoy.control.clock import Now
from convoy.control.records import Job, JobId, Round
from convoy.control.view import ReadOnlyJob, ReadOnlyState
from convoy.errors import BadInput, NotFound
from convoy.server.files import Workspace
from convoy.server.views import SHOWN_NEWEST, job_view, listed_view, member_views, open_views, round_view
from convoy.store.history import History, Listed, Which
from convoy.store.report import spec_of

MAX_JOBS: Final = 500  # jobs in one page
MAX_ROUNDS: Final = 500  # rounds in one page; a page may end sooner because of its size in bytes
NEWEST: Final = 100  # rounds in a job's detail
CURSOR: Final = re.compile(r"([0-9][0-9.e+]{0,30})~([0-9a-f]{32})")
JOB: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class JobReader:
    """Reads jobs for people. Every method that takes a job id raises `NotFound` for an unknown one."""

    state: ReadOnlyState
    history: History
    workspace: Workspace
    clock: Callable[[], Now]

    def live(self, job: str) -> ReadOnlyJob | None:
        """Return a job that is known in memory: one that is not has ended, and all of it is in the ledger."""
        return self.state.jobs.get(JobId(job))

    async def record(self, job: str) -> Job:
        """Return a job's record."""
        live = self.live(job)
        if live is not None:
            return live.record
        found = await asyncio.to_thread(self.history.job, job) if JOB.fullmatch(job) else None
        if found is None:
            raise _no_job(job)
        return found

    async def owner(self, job: str) -> tuple[str, str]:
        """Return who submitted a job, and their organisation then."""
        live = self.live(job)
        if live is not None:
            return live.record.submitter, live.record.org
        found = await asyncio.to_thread(self.history.owner, job) if JOB.fullmatch(job) else None
        if found is None:
            raise _no_job(job)
        return found

    async def line(self, job: str) -> views.JobView:
        """Return a job in one line."""
        live = self.live(job)
        if live is not None:
            return job_view(live, self.state.problem)
        return await self._ended(await self.record(job))

    async def _ended(self, record: Job) -> views.JobView:
        last = await asyncio.to_thread(self.history.last_committed, record.id)
        metrics = {} if last is None else dict(last.metrics)
        return listed_view(Listed(record, -1 if last is None else last.round, metrics))

    async def page(self, begins: str, meant: str, after: str, limit: int) -> views.JobPage:
        """Return a page of jobs; see `Coordinator.jobs`."""
        size = max(min(limit, MAX_JOBS), 1)
        which = Which(begins, meant, _place(after) if after else None)
        found = await asyncio.to_thread(self.history.jobs, which, size + 1)
        seen = [(one, self.live(one.job.id)) for one in found[:size]]
        lines = [listed_view(one) if live is None else job_view(live, self.state.problem) for one, live in seen]
        last = found[size - 1].job if len(found) > size and not meant else None
        return views.JobPage(jobs=lines, next="" if last is None else f"{last.submitted_at!r}~{last.id}")

    async def detail(self, job: str, results: list[str], *, brief: bool = False) -> views.JobDetail:
        """Return a job with its newest rounds; a `brief` one is without costs and the sites of rounds."""
        live = self.live(job)
        record = await self.record(job)
        line = await self._ended(record) if live is None else job_view(live, self.state.problem)
        last = None if live is None else live.last
        newest = await asyncio.to_thread(self.history.rounds, job, limit=NEWEST, newest=True, spread=not brief)
        return views.JobDetail(
            job=line,
            traceback=record.traceback,
            members=await self._members(job, live, costs=not brief),
            rounds=[round_view(one, sites=0 if brief else SHOWN_NEWEST) for one in _with(newest, last)],
            spec=spec_of(record.spec),
            results=results,
            state_bytes=await asyncio.to_thread(self._state_bytes, job, last),
            open=[] if live is None or live.over else open_views(live, self.clock()),
        )

    async def _members(self, job: str, live: ReadOnlyJob | None, *, costs: bool) -> list[views.MemberView]:
        if live is not None:
            members, spent = list(live.members.values()), live.spent if costs else {}
            return member_views(self.state, members, over=live.over, kept=live.after, spent=spent)
        members = await asyncio.to_thread(self.history.members, job)
        spent = await asyncio.to_thread(self.history.spent, job) if costs else {}
        return member_views(self.state, members, over=True, kept={}, spent=spent)

    def _state_bytes(self, job: str, last: Round | None) -> int:
        """Return the size of a workflow's state in bytes; 0 if it has none or has ended."""
        path = self.workspace.job(job).blobs.path(last.state) if last is not None and last.state else None
        return path.stat().st_size if path is not None and path.exists() else 0

    async def rounds(self, job: str, after: int, limit: int, among: Collection[str] = ()) -> views.RoundPage:
        """Return a page of a job's rounds, those after a number; each with these sites, or with the first 100."""
        await self.owner(job)
        size = max(min(limit, MAX_ROUNDS), 1)
        found = await asyncio.to_thread(self.history.rounds, job, after=after, limit=size)
        more = bool(found) and await asyncio.to_thread(self.history.more_rounds, job, found[-1].round)
        return views.RoundPage(rounds=[round_view(one, among=frozenset(among)) for one in found], more=more)

    async def round(self, job: str, number: int, *, brief: bool = False) -> views.RoundView:
        """Return one round with all of its sites; a `brief` one is without costs. Raises `NotFound`."""
        await self.owner(job)
        found = await asyncio.to_thread(self.history.round, job, number) if number < 1 << 31 else None
        if found is None:
            raise NotFound(f"job {job[:8]} has no round {number}", fix=f"see its rounds: convoy job rounds {job[:8]}")
        costs = {} if brief else await asyncio.to_thread(self.history.costs, job, number)
        return round_view(found, sites=len(found.took_part) + len(found.left_out), costs=costs)

    async def news(self, live: ReadOnlyJob, after: int) -> tuple[list[Round], bool]:
        """Return rounds of a running job after a number, and whether others follow at once.

        The last round is in memory, so a watcher that keeps up reads nothing, and does not wait for the disk.
        """
        last = live.last
        if last is None or last.round <= after:
            return [], False
        if last.round == after + 1:
            return [last], False
        found = await asyncio.to_thread(self.history.rounds, live.record.id, after=after, limit=MAX_ROUNDS)
        end = found[-1].round if found else after
        if end == last.round - 1:
            return [*found, last], False
        return found, bool(found) and end < last.round

    async def past(self, job: str, after: int) -> AsyncGenerator[views.Progress, None]:
        """Yield the progress of an ended job, from a round on."""
        record, line = await self.record(job), await self.line(job)
        found = await asyncio.to_thread(self.history.rounds, job, after=after, limit=MAX_ROUNDS)
        while True:
            last = found[-1].round if found else after
            following = await asyncio.to_thread(self.history.rounds, job, after=last, limit=MAX_ROUNDS) if found else []
            yield views.Progress(
                job=line,
                rounds=[round_view(one) for one in found],
                traceback=record.traceback,
                more=bool(following),
            )
            if not following:
                return
            found = following


def _with(found: list[Round], last: Round | None) -> list[Round]:
    """Return rounds with the last one, which may not be durable yet."""
    return found if last is None or (found and found[-1].round >= last.round) else [*found, last]


def _place(cursor: str) -> tuple[float, str]:
    found = CURSOR.fullmatch(cursor)
    try:
        return float(found[1]), found[2]  # type: ignore[index]
    except (TypeError, ValueError) as problem:
        raise BadInput(
            f"after is {cursor[:40]!r}, which is not the `next` of any page", fix="give `next` of the previous page"
        ) from problem


def _no_job(job: str) -> NotFound:
    return NotFound(f"there is no job {job!r}", fix="convoy job list")
