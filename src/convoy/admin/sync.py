"""The blocking version of the client, for notebooks and scripts: `with Session(kit) as convoy: …`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from convoy.admin import views
from convoy.admin.client import Client, Sent, connect
from convoy.spec.kit import Kit
from convoy.trust import audit as trail
from convoy.wire.backoff import PATIENCE_S

T = TypeVar("T")


class Session:
    """The methods of `Client` without await; use it in a `with` block."""

    def __init__(self, kit: Kit | Path | str, *, server: str = "", patience_s: float = PATIENCE_S) -> None:
        """Store the kit; entering the block connects."""
        self._connect = connect(kit, server=server, patience_s=patience_s)

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        try:
            self._client: Client = self._run(self._stack.enter_async_context(self._connect))
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._stack.aclose())
        finally:
            self._runner.close()

    def _run(self, what: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(what)

    def _each(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while True:
                yield self._run(_next(items))
        except StopAsyncIteration:
            return
        finally:
            self._run(_close(items))

    def submit(self, folder: Path | str) -> views.JobView:
        """Sign a job's folder, submit it and return the job."""
        return self._run(self._client.submit(folder))

    def find(self, text: str) -> str:
        """Return a job's id from its id, its unique prefix or its unique name."""
        return self._run(self._client.find(text))

    def jobs(self, *, begins: str = "", count: int = 0) -> list[views.JobView]:
        """Return the jobs, newest first: those whose name or id begins with `begins`, at most `count` (0: all)."""
        return self._run(self._client.jobs(begins=begins, count=count))

    def job(self, job: str) -> views.JobDetail:
        """Return one job with its newest rounds."""
        return self._run(self._client.job(job))

    def rounds(self, job: str, *, after: int = -1) -> Iterator[views.RoundView]:
        """Yield the rounds of a job after a number, each with some of its sites."""
        return self._each(self._client.rounds(job, after=after))

    def round(self, job: str, number: int) -> views.RoundView:
        """Return one round with all of its sites."""
        return self._run(self._client.round(job, number))

    def watch(self, job: str, *, after: int = -1) -> Iterator[views.Progress]:
        """Yield the job at once and after each change until it has ended; `after`: only rounds after this number."""
        return self._each(self._client.watch(job, after=after))

    def wait(self, job: str) -> views.JobDetail:
        """Return the job with all of its rounds once it has ended."""
        rounds = [made for progress in self.watch(job) for made in progress.rounds]
        return self.job(job).model_copy(update={"rounds": rounds})

    def logs(self, job: str, *, site: str | None = None, follow: bool = False) -> Iterator[views.LogLine]:
        """Yield the job's log lines; with `follow` until it has ended."""
        return self._each(self._client.logs(job, site=site, follow=follow))

    def points(
        self, job: str, *, site: str | None = None, key: str = "", follow: bool = False
    ) -> Iterator[views.PointView]:
        """Yield the job's live metrics; with `follow` until it has ended. `key`: a shell pattern."""
        return self._each(self._client.points(job, site=site, key=key, follow=follow))

    def fetch(self, job: str, folder: Path | str) -> list[Path]:
        """Write the results of a job into a folder and return its files."""
        return self._run(self._client.fetch(job, folder))

    def abort(self, job: str) -> views.JobView:
        """End a job; return when all its processes have ended."""
        return self._run(self._client.abort(job))

    def delete(self, job: str) -> None:
        """Delete an ended job and its results."""
        self._run(self._client.delete(job))

    def clone(self, job: str) -> Sent:
        """Submit a job's files again as a new job."""
        return self._run(self._client.clone(job))

    def sites(self) -> list[views.SiteView]:
        """Return every site, by name."""
        return self._run(self._client.sites())

    def enable(self, site: str, *, enabled: bool = True) -> views.SiteView:
        """Enable or disable a site."""
        return self._run(self._client.enable(site, enabled=enabled))

    def revoke(self, site: str) -> views.SiteView:
        """Revoke all certificates of a site that were issued so far."""
        return self._run(self._client.revoke(site))

    def revoke_admin(self, name: str) -> None:
        """Revoke all certificates of a person that were issued so far."""
        self._run(self._client.revoke_admin(name))

    def publish(self, signed: bytes) -> views.FederationView:
        """Give the server a newer federation.json."""
        return self._run(self._client.publish(signed))

    def invite(self, token_hash: str, kind: str, name: str, expires_at: float) -> None:
        """Register a join token; the server gets only its hash."""
        self._run(self._client.invite(token_hash, kind, name, expires_at))

    def audit(self, since: int = 0) -> Iterator[trail.Entry]:
        """Yield the audit trail from record `since` on, each record followed by its checkpoint if it has one."""
        return self._each(self._client.audit(since))

    def records(self, wanted: trail.Search, *, before: int = 0, limit: int = 100) -> views.AuditPage:
        """Return a page of the trail's records, newest first; those with numbers under `before`, if it is not 0."""
        return self._run(self._client.records(wanted, before=before, limit=limit))

    def status(self) -> views.ServerView:
        """Return the state of the server."""
        return self._run(self._client.status())


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


async def _close(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()
