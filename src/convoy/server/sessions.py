"""The gRPC face of the server: who connects, what a site says, where it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from convoy.control import events
from convoy.control.records import JobId, SiteName
from convoy.control.state import State
from convoy.errors import ConvoyError, NotAllowed, RemoteFault
from convoy.server.hub import Hub, Line
from convoy.server.logs import JobLogs
from convoy.server.transfers import Transfers
from convoy.wire import channels
from convoy.wire import convoy_pb2 as pb
from convoy.worker.code import STORY, told


@dataclass(frozen=True, slots=True)
class Sessions:
    """The service that `wire.channels.server` serves."""

    project: str
    version: str
    state: State
    hub: Hub
    transfers: Transfers
    post: Callable[[events.Event], None]
    logs: Callable[[str], JobLogs]

    async def session(self, ups: AsyncIterator[pb.Up], context: Any) -> None:
        """Hold one site's open stream until it ends."""
        first = await anext(aiter(ups), None)  # heard first: a call that ends while it speaks never learns why
        try:
            site = self._who(context)
        except NotAllowed as problem:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(problem))
        if first is None or first.WhichOneof("it") != "hello":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "a session begins with hello")
            return
        try:
            line = self.hub.open(site, first.hello.process)
        except NotAllowed as problem:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(problem))
        line.send(pb.Down(welcome=self._welcome(site)))
        self.post(_joined(site, first.hello))
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(line, ups))
                await _write(line, context)
                reading.cancel()
        finally:
            if self.hub.close(line):
                self.transfers.leave(site)
                self.post(events.SiteLeft(site))

    async def _read(self, line: Line, ups: AsyncIterator[pb.Up]) -> None:
        async for up in ups:
            await self._said(SiteName(line.site), up)
        line.hang_up()

    async def _said(self, site: SiteName, up: pb.Up) -> None:
        match up.WhichOneof("it"):
            case "offer":
                await self.transfers.offer(site, up.offer)
            case "log":
                self._log(site, up.log)
            case "progress":
                self.post(events.Progressed(JobId(up.progress.job), site))
            case "ready":
                self.post(events.MemberReady(JobId(up.ready.job), site))
            case "refused":
                self.post(events.MemberRefused(JobId(up.refused.job), site, told(up.refused.reason)))
            case "failed":
                failed = up.failed
                error, story = told(failed.error), told(failed.story, STORY)
                self.post(events.Unusable(JobId(failed.job), failed.step, site, error, story))
            case "stopped":
                self.post(events.MemberStopped(JobId(up.stopped.job), site))
            case _:
                raise RemoteFault(f"{site} said something that this server does not know")

    def _log(self, site: SiteName, log: pb.Log) -> None:
        job = self.state.jobs.get(JobId(log.job))
        known = job is not None and site in job.members
        if known and not self.logs(log.job).append(site, log.offset, log.data):
            self.hub.behind.add(site)

    def _welcome(self, site: SiteName) -> pb.Welcome:
        held = [
            pb.Held(job=job.record.id, log_offset=self.logs(job.record.id).size(site))
            for job in self.state.jobs.values()
            if site in job.members and job.record.state == "running" and job.members[site].state != "refused"
        ]
        return pb.Welcome(version=self.version, jobs=held)

    async def pull(self, request: pb.PullRequest, context: Any) -> AsyncIterator[bytes]:
        """Yield raw chunks of a blob or a bundle."""
        try:
            async for chunk in self.transfers.pull(self._who(context), request):
                yield chunk
        except ConvoyError as problem:
            await context.abort(_code(problem), str(problem))

    async def push(self, chunks: AsyncIterator[bytes], context: Any) -> pb.PushResult:
        """Take raw chunks of an update; the first message is a `PushHead`."""
        stream = aiter(chunks)
        try:
            head = pb.PushHead.FromString(await anext(stream))
            await self.transfers.push(self._who(context), head, stream)
        except ConvoyError as problem:
            await context.abort(_code(problem), str(problem))
        return pb.PushResult()

    def _who(self, context: Any) -> SiteName:
        site = SiteName(channels.site_of(context, self.project))
        known = self.state.sites.get(site)
        if known is None:
            raise NotAllowed(f"{site} is not a site of this federation", fix="provision anew with it in project.yml")
        if not known.enabled:
            raise NotAllowed(f"{site} is disabled", fix=f"an admin may say `convoy site enable {site}`")
        return site


def _joined(site: SiteName, hello: pb.Hello) -> events.SiteJoined:
    capacity = events.Capacity(hello.cpu, hello.memory, hello.gpu)
    return events.SiteJoined(site, capacity, hello.version, frozenset(hello.jobs))


async def _write(line: Line, context: Any) -> None:
    while (down := await line.downs.get()) is not None:
        await context.write(down)


_CODES: Mapping[type, grpc.StatusCode] = {
    NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    RemoteFault: grpc.StatusCode.DATA_LOSS,
}


def _code(problem: ConvoyError) -> grpc.StatusCode:
    return _CODES.get(type(problem), grpc.StatusCode.UNKNOWN)
