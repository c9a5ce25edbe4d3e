"""The live metrics of jobs: a file of points for each site, in which a resend adds nothing, followed live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from convoy.control import points
from convoy.control.points import Point
from convoy.errors import RemoteFault
from convoy.store.points import PIECE, PointsFiles, Reader, read
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values

OWN: Final = "server"  # whose points are those of the workflow


class JobPoints:
    """The points of one job."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; files appear as points come."""
        self._files = PointsFiles(folder)
        self._followers: set[asyncio.Event] = set()

    def next(self, site: str) -> int:
        """Return the number of the next point of a site."""
        return self._files.of(site).next if site in self._files.sites() else 0

    def append(self, site: str, lines: bytes) -> bool:
        """Add those of a site's lines that are not here yet; return whether all are stored now.

        Numbers may be missing: a site that was not connected for long thins its points. Raises `RemoteFault` for
        what is not lines of growing numbers.
        """
        if len(lines) > PIECE or not points.are_lines(lines):
            raise RemoteFault(f"{site} sent {len(lines)} bytes that are not lines of points")
        file = self._files.of(site)
        numbers = [points.number(line) for line in lines.splitlines()]
        if any(after <= before for before, after in pairwise(numbers)):
            raise RemoteFault(f"{site} sent points whose numbers do not grow")
        stored = file.append(lines[points.place(lines, file.next) :])
        self.wake()
        return stored

    def own(self, given: pb.Points, round_: int) -> None:
        """Add points of the workflow. Raises `RemoteFault` for an invalid message."""
        file = self._files.of(OWN)
        found = values.points_of(given, round_, time.time())
        file.append(b"".join(points.write(replace(it, number=file.next + n)) for n, it in enumerate(found)))
        self.wake()

    def wake(self) -> None:
        """Wake followers, so that they look for points, and whether the job has ended."""
        for event in self._followers:
            event.set()

    async def read(
        self, site: str | None, key: str = "", after: int = -1, over: Callable[[], bool] = lambda: True
    ) -> AsyncGenerator[tuple[str, Point], None]:
        """Yield (site, point): the points of each site in their order, then new ones until `over()`.

        `key`: only values whose keys match this shell pattern; `after`: only points with a higher number.
        """
        readers: dict[str, Reader] = {}
        event = asyncio.Event()
        self._followers.add(event)
        try:
            while True:
                event.clear()
                last, found = over(), False
                for name in self._files.sites():
                    if site not in (None, name):
                        continue
                    reader = readers.setdefault(name, Reader(self._files.of(name), after + 1))
                    if data := reader.piece():
                        found = True
                        for point in await asyncio.to_thread(read, data, key):
                            yield name, point
                if last and not found:
                    return
                if not found:
                    await event.wait()
        finally:
            self._followers.discard(event)
