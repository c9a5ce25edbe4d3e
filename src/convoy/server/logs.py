"""The logs of jobs: one file for each site, appended by offset so that a resend adds nothing, followed live."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from convoy.node.capped import MAX_LOG, CappedLog
from convoy.node.lines import MAX_LINE
from convoy.server.files import Workspace
from convoy.server.points import JobPoints
from convoy.spec.printable import BEFORE, blanked
from convoy.store.points import FOLDER

PIECE: Final = 64 << 10  # bytes of each file that are read at once
PAGE: Final = 1000  # lines
STAMP: Final = 24  # characters of "2026-11-23T20:31:02.123Z", which every line begins with


class JobLogs:
    """The log files of one job."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; files appear as sites send."""
        self._folder = folder
        self.points = JobPoints(folder.parent / FOLDER)  # live metrics, which are kept beside the logs
        self._followers: set[asyncio.Event] = set()

    def size(self, site: str) -> int:
        """Return how many bytes of a site's log are here."""
        path = self._folder / f"{site}.log"
        return path.stat().st_size if path.exists() else 0

    def append(self, site: str, offset: int, data: bytes) -> bool:
        """Append the new part of `data`, which begins at `offset` of the site's log; return whether it is stored now.

        Data behind a gap is not stored. If the disk is full, lines are lost, but the job continues.
        """
        have = self.size(site)
        if have >= MAX_LOG or offset > have:
            return False
        if offset + len(data) <= have:
            return True
        try:
            with (self._folder / f"{site}.log").open("a+b") as file:
                file.seek(max(have - BEFORE, 0))
                file.write(blanked(data[have - offset :], file.read(BEFORE)))
        except OSError:
            return False
        for event in self._followers:
            event.set()
        return True

    def own(self) -> CappedLog:
        """Return the log of the server's own worker, the workflow."""
        return CappedLog(self._folder / "server.log")

    def lines(self, site: str | None) -> Iterator[tuple[str, str]]:
        """Yield (site, line) of all lines, in the order of their time stamps, as they are read from the files."""
        files = sorted(self._folder.glob(f"{site}.log" if site else "*.log"))
        return heapq.merge(*(_read(file) for file in files), key=lambda pair: pair[1][:STAMP])

    async def follow(self, site: str | None, over: Callable[[], bool]) -> AsyncIterator[tuple[str, str]]:
        """Yield (site, line): stored lines, then new ones, until `over()`; `wake` wakes it too."""
        told: dict[str, int] = {}
        event = asyncio.Event()
        self._followers.add(event)
        try:
            while True:
                event.clear()
                last = over()
                while fresh := await asyncio.to_thread(self._new, site, told):
                    for pair in fresh:
                        yield pair
                if last:
                    return
                await event.wait()
        finally:
            self._followers.discard(event)

    def wake(self) -> None:
        """Wake followers, also those of live metrics, so that they check whether the job has ended."""
        for event in self._followers:
            event.set()
        self.points.wake()

    def _new(self, site: str | None, told: dict[str, int]) -> list[tuple[str, str]]:
        """Return the next lines of each file, up to `PIECE` bytes of it."""
        fresh: list[list[tuple[str, str]]] = []
        for file in sorted(self._folder.glob(f"{site}.log" if site else "*.log")):
            with file.open("rb") as stream:
                stream.seek(told.get(file.stem, 0))
                data = stream.read(PIECE)
            whole = data[: data.rfind(b"\n") + 1] if len(data) < PIECE or b"\n" in data else data
            told[file.stem] = told.get(file.stem, 0) + len(whole)
            fresh.append([(file.stem, line) for line in whole.decode(errors="replace").splitlines()])
        return list(heapq.merge(*fresh, key=lambda pair: pair[1][:STAMP]))


@dataclass(slots=True)
class Logbook:
    """The logs of each job, opened once."""

    workspace: Workspace
    open: dict[str, JobLogs] = field(default_factory=dict)

    def of(self, job: str) -> JobLogs:
        """Return the job's logs."""
        if job not in self.open:
            self.open[job] = JobLogs(self.workspace.job(job).logs)
        return self.open[job]

    def forget(self, job: str) -> None:
        """Forget the logs of a deleted job."""
        self.open.pop(job, None)


def pages(lines: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield lists of up to a thousand lines."""
    while page := list(islice(lines, PAGE)):
        yield page


def _read(file: Path) -> Iterator[tuple[str, str]]:
    with file.open(encoding="utf-8", errors="replace") as stream:
        while line := stream.readline(MAX_LINE):
            yield file.stem, line.rstrip("\n")
