"""What a job at a site fetches from its server: its bundle, and the model of each task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from convoy.errors import Refused, Unreachable
from convoy.model import blob
from convoy.site.line import Line
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire.backoff import Backoff

T = TypeVar("T")
MODEL: Final = "model"  # the holder of the newest model, so that its tensors need not be sent again
MAX_BUNDLE: Final = 72 << 20  # bytes: 64 MiB of files and their signed list


@dataclass(slots=True)
class Intake:
    """Fetches the files of one job."""

    job: str
    folder: Path
    blobs: BlobFolder
    line: Line
    stop: asyncio.Event  # of the job
    newest: str = ""  # the digest of the newest model

    async def bundle(self, start: pb.Start | None) -> bytes:
        """Return the bundle; without `start` it is on the disk. Raises `Refused` for one that is too large."""
        path = self.folder / "bundle"
        if start is None:
            return path.read_bytes()
        if start.size > MAX_BUNDLE:
            raise Refused(f"the bundle has {start.size} bytes, {MAX_BUNDLE} are the limit")
        data = bytearray(start.whole)
        if len(data) < start.size:
            await self._pull(start.bundle, lambda: [(len(data), start.size)], data.extend)
        draft = self.folder / "bundle.tmp"
        draft.write_bytes(data)
        draft.replace(path)
        return bytes(data)

    async def model(self, holder: str, model: pb.Blob) -> None:
        """Fetch and hold a model. Raises `NotAllowed` if the server denies it, `RemoteFault`, `StorageFull`."""
        if model.whole:  # small models are always sent whole: nothing of one is kept for the next
            self.blobs.put(holder, model.whole, expect=model.digest)
        else:
            if not self.blobs.hold(holder, model.digest):
                await self._fetch(holder, model)
            self.blobs.hold(MODEL, model.digest)
        self.newest = model.digest

    async def _fetch(self, holder: str, model: pb.Blob) -> None:
        layout, near = blob.parse(model.header, expect=model.digest), self.blobs.held(MODEL)
        with await in_thread(lambda: self.blobs.receive(holder, layout, near=near)) as receiver:
            if receiver.ranges:
                await self._pull(model.digest, lambda: receiver.ranges, receiver.feed)
            await in_thread(receiver.finish)

    async def _pull(
        self, digest: str, ranges: Callable[[], Iterable[tuple[int, int]]], feed: Callable[[memoryview], None]
    ) -> None:
        """Fetch the ranges of a blob that are missing; an interrupted transfer continues where it stopped."""
        backoff = Backoff()
        while True:
            await self.line.connected.wait()
            wanted = [pb.Range(start=start, end=end) for start, end in ranges()]
            try:
                await self.line.pull(pb.PullRequest(job=self.job, digest=digest, ranges=wanted), feed)
            except Unreachable:
                await backoff.wait(self.stop)
            else:
                return


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """Run a function that writes files; if cancelled, wait for its end first, so that no write follows."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.gather(work, return_exceptions=True)
        raise
