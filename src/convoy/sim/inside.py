"""An engine that does visits in this process, each when its result is wanted: nothing is faster for small models."""

from __future__ import annotations

import asyncio
import io
import math
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from convoy.model.arrays import NO_ARRAYS, Model
from convoy.sim.calls import own
from convoy.sim.visits import Visit, Visited
from convoy.store.points import FOLDER, PointsFiles
from convoy.worker.visitor import Failed, Visitor, Work


class Inside:
    """The sites of a job, in this process. What they print is in a file for each site."""

    inside: ClassVar = True

    def __init__(self, work: Work, data: Callable[[str], Mapping[str, str]], logs: Path, home: Path) -> None:
        """Take the job's code, what gives each site its data, the folder of the logs, and that of the sites' own."""
        self._data, self._log = data, _Log(logs)
        self._text = io.TextIOWrapper(self._log, "utf-8", "backslashreplace", write_through=True)  # type: ignore[type-var]
        self._visit: Visit | None = None
        self._works = self._interrupted = False
        self._visitor = Visitor(work, self._load, home, PointsFiles(logs.with_name(FOLDER)).add)

    def _load(self, digest: str) -> Model:
        visit = self._visit
        if visit is None or not digest:
            return NO_ARRAYS
        return visit.model if digest == visit.question.model else visit.state

    @contextmanager
    def working(self) -> Iterator[None]:
        """Let this process be the sites' until the end of the block: its folder, its session, and where it prints."""
        before = sys.stdout, sys.stderr
        try:
            with self._visitor.working():
                yield
        finally:
            sys.stdout, sys.stderr = before

    def start(self, visit: Visit) -> Callable[[], Awaitable[Visited]]:
        """Note a visit."""
        return partial(self._done, visit)

    async def _done(self, visit: Visit) -> Visited:
        self._visit = visit
        self._prints(visit.site)
        self._works = True
        try:
            if self._interrupted:
                raise KeyboardInterrupt
            said = self._visitor.visit(visit.site, self._data(visit.site), visit.question, visit.state.digest, math.inf)
        finally:
            self._works = False
        self._text.flush()
        if isinstance(said, Failed):
            return Visited(error=said.error, traceback=said.traceback)
        arrays = None if said.arrays is None else own(said.arrays)
        return Visited(arrays, said.weight, said.metrics, said.value, said.state)

    async def close(self) -> None:
        """Let every site's trainer come to its end."""
        with self.working():
            self._visitor.close(self._logged)

    def _prints(self, site: str) -> None:
        """Let what is printed from now on be in a site's file."""
        self._log.site = site
        sys.stdout = sys.stderr = self._text

    @contextmanager
    def _logged(self, site: str) -> Iterator[None]:
        self._prints(site)
        yield
        self._text.flush()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let an interrupt end the trainer that works now, which may go on for ever; else cancel the caller's task.

        In another thread than the main one, which alone hears of signals, it does nothing.
        """
        if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGINT)):
            yield
            return
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None  # noqa: S101 - a coroutine runs

        def heard(_number: int, _frame: FrameType | None) -> None:
            self._interrupted = True
            if self._works:
                raise KeyboardInterrupt
            loop.call_soon_threadsafe(task.cancel)

        before = signal.signal(signal.SIGINT, heard)
        try:
            yield
        except asyncio.CancelledError:
            if self._interrupted:
                raise KeyboardInterrupt from None
            raise
        finally:
            signal.signal(signal.SIGINT, before)

    async def stop(self) -> None:
        """Do nothing: what runs in this process ends with it."""


class _Log(io.RawIOBase):
    """A file of bytes for each site, which is there once something is written into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.site = ""  # the one that is written now

    def writable(self) -> bool:
        """Whether it can be written to: always."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes."""
        with (self._folder / f"{self.site}.log").open("ab") as file:
            return file.write(data)
