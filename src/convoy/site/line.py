"""The site's end of its one stream: what is said while nobody listens is not kept, it is said anew on return."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field

import grpc

from convoy.errors import NotAllowed, RemoteFault
from convoy.wire import convoy_pb2 as pb
from convoy.wire.channels import CHUNK, Link


@dataclass(slots=True)
class Line:
    """The stream to the server, when there is one."""

    link: Link
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    _ups: asyncio.Queue[pb.Up] = field(default_factory=asyncio.Queue)

    def send(self, up: pb.Up) -> None:
        """Say something if the server listens."""
        if self.connected.is_set():
            self._ups.put_nowait(up)

    async def session(self, hello: pb.Hello, *, wait_s: float) -> AsyncIterator[pb.Down]:
        """Hold a stream: yield what the server says until either side ends it.

        Waits `wait_s` for a server that is not there, then raises `TimeoutError`; with 0 it tries once and raises
        `grpc.aio.AioRpcError`, which says why nobody is there.
        """
        call = self.link.session(wait_for_ready=wait_s > 0)
        self._ups = asyncio.Queue()
        writer: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(wait_s or None):
                await call.write(pb.Up(hello=hello))
                down = await call.read()
            while isinstance(down, pb.Down):
                if writer is None:
                    self.connected.set()
                    writer = asyncio.create_task(self._write(call))
                yield down
                down = await call.read()
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                raise _refusal(code, await call.details())
        finally:
            self.connected.clear()
            if writer is not None:
                writer.cancel()
            call.cancel()

    async def _write(self, call: grpc.aio.StreamStreamCall[pb.Up, pb.Down]) -> None:
        try:
            while True:
                await call.write(await self._ups.get())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader of the same call sees the end, and why

    async def pull(self, request: pb.PullRequest) -> AsyncIterator[bytes]:
        """Yield raw chunks. Raises `NotAllowed`, `RemoteFault`; returns early when the connection is lost."""
        call = self.link.pull(request, wait_for_ready=True)
        try:
            async for chunk in call:
                yield chunk
        except grpc.aio.AioRpcError as problem:
            _raise_unless_lost(problem)

    async def push(self, head: pb.PushHead, path: str) -> None:
        """Send the byte ranges of a file. Raises `NotAllowed`, `RemoteFault`; returns early on a lost connection."""

        async def chunks() -> AsyncIterator[bytes]:
            yield head.SerializeToString()
            for chunk in read_ranges(path, head.ranges):
                yield chunk

        try:
            await self.link.push(chunks(), wait_for_ready=True)
        except grpc.aio.AioRpcError as problem:
            _raise_unless_lost(problem)


def read_ranges(path: str, ranges: Iterable[pb.Range]) -> Iterator[bytes]:
    """Yield the bytes of a file's ranges in chunks."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - unbuffered, by str
        for part in ranges:
            file.seek(part.start)
            left = part.end - part.start
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    return
                left -= len(chunk)
                yield chunk


def _refusal(code: grpc.StatusCode, details: str | None) -> Exception:
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return NotAllowed("the server refused this site", why=details or "")
    return RemoteFault(f"the stream ended: {code.name}", why=details or "")


def _raise_unless_lost(problem: grpc.aio.AioRpcError) -> None:
    if problem.code() is grpc.StatusCode.PERMISSION_DENIED:
        raise NotAllowed("the server refused", why=problem.details() or "") from problem
    if problem.code() in (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNKNOWN):
        raise RemoteFault("the transfer failed", why=problem.details() or "") from problem
