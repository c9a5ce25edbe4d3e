"""Artifacts that sites send: one package for each site and job, of limited size, while the job ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import structlog
from blake3 import blake3

from convoy import errors
from convoy.control.records import JobId, SiteName
from convoy.control.view import ReadOnlyJob, ReadOnlyState
from convoy.errors import ConvoyError, NotAllowed, Refused, RemoteFault, StorageFull, Unreachable
from convoy.server.files import JobFiles, Workspace, sync_file
from convoy.store.disk import storage
from convoy.wire import convoy_pb2 as pb
from convoy.wire import package
from convoy.wire.pump import Pump
from convoy.wire.stream import Stream

MAX_FILES: Final = 4000  # of one job, in equal parts for its sites; people download them one by one


@dataclass(frozen=True, slots=True)
class Arrival:
    """A package that is being received."""

    size: int
    stream: Stream
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Receives the packages of all sites."""

    state: ReadOnlyState
    workspace: Workspace
    pump: Pump
    most: int  # bytes of one job, in equal parts for its sites
    free: Callable[[], int]  # bytes on the disk
    _coming: dict[tuple[str, SiteName], Arrival] = field(default_factory=dict)

    def take(self, site: SiteName, head: pb.ArtifactsHead, stream: Stream) -> Coroutine[Any, Any, bool]:
        """Check an announced package; return the function that receives it and returns whether to reuse the connection.

        Raises `NotAllowed` for one that is not expected, `Refused` for a large one, and `StorageFull`.
        """
        job, files, key = self._awaited(site, head.job), self.workspace.job(head.job), (head.job, site)
        if key in self._coming or files.package(site).exists():
            raise NotAllowed(f"{site} has sent the artifacts of this job already")
        most = self.most // len(job.members)
        if head.size > most:
            why = f"of each of its {len(job.members)} sites the server takes {most} (`artifacts` in its node.yaml)"
            raise Refused(f"the artifacts have {head.size} bytes", why=why)
        coming = sum(one.size for one in self._coming.values())
        if 2 * (coming + head.size) > self.free():  # as a package, and then among the results
            raise StorageFull("the server's disk has no room for artifacts", why=f"{head.size} bytes were announced")
        arrival = self._coming[key] = Arrival(head.size, stream)
        return self._receive(site, head, files, min(package.MAX_FILES, MAX_FILES // len(job.members)), arrival)

    def _awaited(self, site: SiteName, job: str) -> ReadOnlyJob:
        live = self.state.jobs.get(JobId(job))
        member = None if live is None else live.members.get(site)
        if live is None or member is None or member.state == "ended" or not live.stopping:
            raise NotAllowed("the server does not wait for artifacts of this job", why=f"job {job[:32]!r}, site {site}")
        return live

    async def _receive(
        self, site: SiteName, head: pb.ArtifactsHead, files: JobFiles, most: int, arrival: Arrival
    ) -> bool:
        target, stream = files.package(site), arrival.stream
        problem: ConvoyError | None = None
        draft = target.with_name(f".{site}.part")
        try:
            async with asyncio.timeout(package.longest_s(head.size)):
                await stream.write(pb.Verdict())
                await self._feed(stream, head, draft)
            await asyncio.to_thread(_finish, draft, target, head, site, most)
        except Unreachable:
            return False
        except TimeoutError:
            problem = Refused(
                "the artifacts arrived too slowly", why=f"at least {package.SLOWEST} bytes a second are required"
            )
        except (Refused, RemoteFault, StorageFull) as found:
            problem = found
        finally:
            draft.unlink(missing_ok=True)
            del self._coming[head.job, site]
            arrival.ended.set()
        if problem is not None:
            reason = errors.line(problem)
            structlog.get_logger().warning("artifacts refused", job=head.job, site=site, reason=reason)
            await stream.write(verdict(problem))
            return False
        await stream.write(pb.Verdict())
        return True

    async def _feed(self, stream: Stream, head: pb.ArtifactsHead, draft: Path) -> None:
        """Write the package as it arrives. Raises `RemoteFault` for bytes that are not those of its digest."""
        digest = blake3()
        with storage(draft):
            draft.parent.mkdir(exist_ok=True)
            with draft.open("wb") as file:
                await self.pump.receive(stream, head.size, _writer(file, digest))
        if digest.hexdigest() != head.digest:
            raise RemoteFault("the artifacts arrived damaged", why="their bytes are not those of their digest")

    async def settled(self, job: str, *, cut: bool) -> None:
        """Wait until no package of a job is being received; with `cut`, abort those that are."""
        for arrival in [one for (key, _), one in self._coming.items() if key == job]:
            if cut:
                arrival.stream.cut()
            await arrival.ended.wait()


def verdict(problem: ConvoyError) -> pb.Verdict:
    """Return the verdict that tells a site why its artifacts are refused."""
    fault = pb.Verdict.FAULTY if isinstance(problem, RemoteFault) else pb.Verdict.OTHER
    return pb.Verdict(fault=fault, reason=str(problem))


def _writer(file: BinaryIO, digest: blake3) -> Callable[[memoryview], None]:
    def write(piece: memoryview) -> None:
        digest.update(piece)
        file.write(piece)

    return write


def _finish(draft: Path, target: Path, head: pb.ArtifactsHead, site: str, most: int) -> None:
    """Give a complete package its name. Raises `RemoteFault` for a list that is not acceptable, `StorageFull`."""
    with draft.open("rb") as file:
        package.files_of(file, head.size, site, most)
    with storage(draft):
        draft.replace(target)
        sync_file(target)
