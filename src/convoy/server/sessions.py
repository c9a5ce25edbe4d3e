"""Connections of sites: admits them, receives their messages, and passes them on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog

from convoy import errors
from convoy.control import events
from convoy.control.records import JobId, SiteName, are_names
from convoy.control.view import ReadOnlyState
from convoy.errors import ConvoyError, NotAllowed, RemoteFault
from convoy.server.artifacts import Artifacts
from convoy.server.auditor import Auditor
from convoy.server.hub import Hub, Line
from convoy.server.lease import Lease
from convoy.server.logs import JobLogs
from convoy.server.registry import Registry
from convoy.server.standing import Standing
from convoy.server.transfers import Transfers
from convoy.spec.policy import ISOLATED
from convoy.trust.federation import Federation
from convoy.wire import convoy_pb2 as pb
from convoy.wire import tls
from convoy.wire.budget import Budget, Rate
from convoy.wire.frames import MAX_FIRST
from convoy.wire.stream import Stream, hear, speak
from convoy.worker.code import TRACEBACK, told

LAST_WORDS_S: Final = 1.0  # for a site to receive the reason before it is disconnected
SPREAD_S: Final = 0.01  # between two sites that are told to renew
KEEP_S: Final = 60.0  # for a connection's first message, and for a site's next transfer on the same connection
MAX_CONNECTIONS: Final = 64  # of one site: its main connection, and transfers of a few dozen jobs at the same moment
MAX_JOBS: Final = 10_000  # jobs that a site reports that it holds
MAX_MEMORY: Final = 1 << 60  # bytes of memory that a site reports; no machine has a thousandth of it
MAX_VERSION: Final = 64  # characters; it is shown in lists
SITE: Final = Rate(1000, 16 << 20, 4)  # 1,000 messages and 16 MiB a second of one site, 4 s of that at once
PINGS: Final = Rate(1, 1 << 20, 20, 0.0, "pings")  # one a second, 20 at once; a site of ours sends one every 20 s
RENEWALS: Final = Rate(1, 1 << 20, 60, 0.0, "certificate requests")  # one a second, 60 at once; one a day is usual
OPENING: Final = 20  # messages that a new connection costs as much as: its handshake
TRANSFER: Final = 5  # messages that one more transfer on a connection costs as much as: a file, a thread


@dataclass(frozen=True, slots=True)
class Budgeted:
    """The budgets of one site."""

    messages: Budget = field(default_factory=lambda: Budget(SITE))
    pings: Budget = field(default_factory=lambda: Budget(PINGS))
    renewals: Budget = field(default_factory=lambda: Budget(RENEWALS))
    offering: asyncio.Lock = field(default_factory=asyncio.Lock)  # one offer of a site with a header at a time


@dataclass(frozen=True, slots=True)
class Sessions:
    """Handles the connections that the port for sites accepts."""

    project: str
    version: str
    state: ReadOnlyState
    hub: Hub
    transfers: Transfers
    post: Callable[[events.Event], None]
    logs: Callable[[str], JobLogs]
    registry: Registry
    audit: Auditor
    artifacts: Artifacts
    open: dict[SiteName, set[Stream]] = field(default_factory=dict)
    budgets: dict[SiteName, Budgeted] = field(default_factory=dict)  # over all connections of each
    refusals: dict[SiteName, str] = field(default_factory=dict)  # why each was refused last: it asks every few seconds

    def refused(self, problem: NotAllowed) -> None:
        """Record a client that was refused during the handshake."""
        self.audit.note_some("stranger", "join", "", f"refused: {errors.line(problem)}")

    async def serve(self, stream: Stream) -> None:
        """Serve one connection until it ends: a site's session, or transfers one after the other."""
        try:
            peer = tls.peer_of(stream.sock, self.project)
        except NotAllowed as problem:
            if await self._opening(stream) is not None:
                self.refused(problem)
                await stream.write(verdict(problem))
            raise
        site = SiteName(peer.name)
        stream.peer = site
        if len(self.open.get(site, ())) >= MAX_CONNECTIONS:
            raise NotAllowed(f"{site} has too many connections", why=f"{MAX_CONNECTIONS} are the limit")
        self.open.setdefault(site, set()).add(stream)
        try:
            await self._serve(Standing(self.state, self.registry.membership, peer), stream)
        finally:
            self.open[site].discard(stream)
            if not self.open[site]:
                del self.open[site]

    async def _serve(self, standing: Standing, stream: Stream) -> None:
        site, cost = SiteName(standing.peer.name), OPENING
        while (opening := await self._opening(stream)) is not None:
            try:
                standing.check()
                budgets = self.budgets.setdefault(site, Budgeted())
                await budgets.messages.spend(0, frames=cost)
                for budget in (budgets.pings, budgets.renewals):  # raises while the site is not admitted
                    budget.pay(0, frames=0)
                cost = TRANSFER
                work = standing.act(partial(self._begun, standing, stream, opening))
            except ConvoyError as problem:
                reason = errors.line(problem)
                self._log_refusal(site, reason)
                if opening.HasField("hello"):
                    self.audit.note_some(f"site:{site}", "join", "", f"refused: {reason}")
                await stream.write(verdict(problem))
                return
            if not await work:
                return

    def _log_refusal(self, site: SiteName, reason: str) -> None:
        """Log a refusal as a problem if the one before had another reason, or the site was admitted in between."""
        log = structlog.get_logger()
        (log.info if self.refusals.get(site) == reason else log.warning)("a site was refused", site=site, reason=reason)
        self.refusals[site] = reason

    def published(self, new: Federation, signed: bytes) -> None:
        """Send a newer federation.json to every site, and disconnect sites that it does not list."""
        self.post(events.SitesListed(frozenset(map(SiteName, new.sites()))))
        for site in list(self.hub.lines):
            self.hub.send(site, pb.Down(federation=pb.Federation(json=signed)))
            if site not in new.participants:
                self.expel(SiteName(site))

    def renew_all(self) -> None:
        """Have every site renew its certificate, a few at a time."""
        for count, line in enumerate(list(self.hub.lines.values())):
            asyncio.get_running_loop().call_later(count * SPREAD_S, line.send, pb.Down(renew=pb.Renew()))

    def expel(self, site: SiteName) -> None:
        """End every connection of a site: transfers at once; a line that does not take our last words loses them."""
        line = self.hub.lines.get(site)
        if line is not None:
            line.hang_up()
        for stream in list(self.open.get(site, ())):
            if line is None or stream is not line.stream:
                stream.cut()
            else:
                asyncio.get_running_loop().call_later(LAST_WORDS_S, self._cut, site, stream)

    def _cut(self, site: SiteName, stream: Stream) -> None:
        if stream in self.open.get(site, ()):
            stream.cut()

    async def _opening(self, stream: Stream) -> pb.Opening | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(KEEP_S):
                return await stream.read(pb.Opening, MAX_FIRST)
        return None

    def _begun(self, standing: Standing, stream: Stream, opening: pb.Opening) -> Awaitable[bool]:
        """Check the first message of a connection; return what to do, which returns whether to reuse the connection.

        Raises the error that the site is told.
        """
        site = SiteName(standing.peer.name)
        match opening.WhichOneof("it"):
            case "hello":
                joined = _joined(site, opening.hello)
                return self._session(self.hub.open(site, opening.hello.process, stream), standing, joined)
            case "pull":
                return self.transfers.pull(site, opening.pull, self.transfers.pullable(site, opening.pull), stream)
            case "push":
                return self._push(standing, stream)
            case "artifacts":
                return self.artifacts.take(site, opening.artifacts, stream)
            case _:
                raise RemoteFault("a connection opens with hello, pull, push or artifacts")

    async def _push(self, standing: Standing, stream: Stream) -> bool:
        """Take one update from a site: its offer, then the bytes that are wanted; return whether more may follow."""
        site = SiteName(standing.peer.name)
        budgets = self.budgets.setdefault(site, Budgeted())
        async with budgets.offering:  # however many connections it has, one header of it is in memory
            said = await hear(stream, pb.Offer, budgets.messages)
            if said is None:
                return False
            arrival = await standing.act(partial(self.transfers.begin, site, said, stream))
        if arrival is None:
            await stream.write(pb.Verdict(), pb.Want())
            return True
        return await self.transfers.receive(arrival)

    async def _session(self, line: Line, standing: Standing, joined: events.SiteJoined) -> bool:
        """Serve one site's main connection until either side closes it."""
        site = SiteName(line.site)
        lease = Lease(line, standing.peer)
        self.refusals.pop(site, None)
        # First who is who: with the welcome a site is ready, and judges the jobs that it holds.
        line.send(pb.Down(federation=pb.Federation(json=self.registry.signed)))
        line.send(pb.Down(welcome=self._welcome(site)))
        if (greeting := self.audit.greeting()) is not None:
            line.send(greeting)
        self.post(joined)
        try:
            await line.stream.write(pb.Verdict())
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(line, lease, standing))
                await speak(line.stream, line.downs, pb.Down(ping=pb.Ping()))
                reading.cancel()
        except* ConvoyError as problems:  # it is gone or sent an invalid message; it reconnects and repeats itself
            structlog.get_logger().info("site lost", site=site, reason=errors.line(problems.exceptions[0]))
        finally:
            lease.end()
            if self.hub.close(line):
                self.transfers.leave(site)
                self.post(events.SiteLeft(site))
        return False

    async def _read(self, line: Line, lease: Lease, standing: Standing) -> None:
        """Handle a site's messages; each costs budget and is handled in one step with a check of the site's rights."""
        budgets = self.budgets.setdefault(SiteName(line.site), Budgeted())
        while (up := await hear(line.stream, pb.Up, budgets.messages)) is not None:
            match up.WhichOneof("it"):
                case "ping":
                    budgets.pings.pay(0)
                    continue
                case "request":
                    budgets.renewals.pay(0)
            offered = standing.act(partial(self._said, line, lease, standing, up))
            if offered is not None:
                await offered
        line.hang_up()

    def _said(self, line: Line, lease: Lease, standing: Standing, up: pb.Up) -> Awaitable[None] | None:
        """Handle one message; return a coroutine for work that takes longer."""
        site, kind = SiteName(line.site), up.WhichOneof("it")
        said: Any = getattr(up, kind) if kind else None
        asked = said.answer.question if kind == "offer" else getattr(said, "question", "0.0")
        if hasattr(said, "job") and not are_names(said.job, asked):
            raise RemoteFault(f"{site} names a job or a task with an invalid id", why=f"{kind} of {said.job[:80]!r}")
        match kind:
            case "request":
                standing.peer, pem = self.registry.renewed(line.site, up.request.pem)
                lease.extend(standing.peer)
                self.audit.note(f"site:{line.site}", "renew")
                line.send(pb.Down(certificate=pb.Certificate(pem=pem)))
            case "offer":
                return self.transfers.offer(site, up.offer)
            case "log":
                self._log(site, up.log)
            case "points":
                self._points(site, up.points)
            case "progress":
                self.post(events.Progressed(JobId(up.progress.job), site))
            case "ready":
                self.post(events.MemberReady(JobId(up.ready.job), site))
            case "waits":
                self.post(events.MemberWaits(JobId(up.waits.job), site, told(up.waits.why)))
            case "refused":
                self._refused(site, JobId(up.refused.job), told(up.refused.reason))
            case "failed":
                failed = up.failed
                error, traceback = told(failed.error), told(failed.traceback, TRACEBACK)
                self.post(events.Unusable(JobId(failed.job), failed.question, site, error, traceback))
            case "stopped":
                self.post(events.MemberStopped(JobId(up.stopped.job), site))
            case _:
                raise RemoteFault(f"{site} sent a message that this server does not know")
        return None

    def _refused(self, site: SiteName, job: JobId, reason: str) -> None:
        if job in self.state.jobs:
            self.audit.note_some(f"site:{site}", "refuse", f"job:{job}", reason)
        self.post(events.MemberRefused(job, site, reason))

    def _log(self, site: SiteName, log: pb.Log) -> None:
        job = self.state.jobs.get(JobId(log.job))
        known = job is not None and site in job.members
        if known and not self.logs(log.job).append(site, log.offset, log.data):
            self.hub.behind.add(site)

    def _points(self, site: SiteName, said: pb.PointLines) -> None:
        job = self.state.jobs.get(JobId(said.job))
        known = job is not None and site in job.members
        if known and not self.logs(said.job).points.append(site, said.lines):
            self.hub.behind.add(site)

    def _welcome(self, site: SiteName) -> pb.Welcome:
        held = [
            self._held(job.record.id, site)
            for job in self.state.jobs.values()
            if site in job.members and job.record.state == "running" and job.members[site].state != "refused"
        ]
        return pb.Welcome(version=self.version, jobs=held)

    def _held(self, job: JobId, site: SiteName) -> pb.Held:
        logs = self.logs(job)
        return pb.Held(job=job, log_offset=logs.size(site), points=logs.points.next(site))


def _joined(site: SiteName, hello: pb.Hello) -> events.SiteJoined:
    """Return what a site reports about itself. Raises `RemoteFault` for invalid numbers and for too many jobs."""
    if not all(math.isfinite(number) and number >= 0 for number in (hello.cpu, hello.gpu)):
        raise RemoteFault(f"{site} offers {hello.cpu:g} cores and {hello.gpu:g} GPUs", why="wanted numbers from 0 up")
    if hello.memory > MAX_MEMORY:
        raise RemoteFault(f"{site} offers {hello.memory} bytes of memory", why=f"{MAX_MEMORY} are the limit")
    if not all(are_names(job) for job in hello.jobs[:MAX_JOBS]):
        raise RemoteFault(f"{site} reports jobs with invalid ids")
    if len(hello.jobs) > MAX_JOBS:
        raise RemoteFault(f"{site} reports that it holds {len(hello.jobs)} jobs", why=f"{MAX_JOBS} are the limit")
    capacity = events.Capacity(hello.cpu, hello.memory, hello.gpu)
    missing = {part: told(hello.missing[part]) for part in ISOLATED if part in hello.missing}
    return events.SiteJoined(site, capacity, hello.version[:MAX_VERSION], frozenset(hello.jobs), missing)


_FAULTS: Mapping[type, pb.Verdict.Fault] = {
    NotAllowed: pb.Verdict.NOT_ALLOWED,
    RemoteFault: pb.Verdict.FAULTY,
}


def verdict(problem: ConvoyError) -> pb.Verdict:
    """Return the verdict that tells a site why it is refused."""
    return pb.Verdict(fault=_FAULTS.get(type(problem), pb.Verdict.OTHER), reason=str(problem))
