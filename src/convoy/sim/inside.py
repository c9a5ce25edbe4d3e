"""An engine that does visits in this process, each when its result is wanted: nothing is faster for small models."""

from __future__ import annotations

import io
import math
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from convoy.model.arrays import Model
from convoy.sim.calls import own
from convoy.sim.visits import Visit, Visited
from convoy.worker.visitor import Failed, Visitor, Work


class Inside:
    """The sites of a job, in this process. What they print is in a file for each site."""

    def __init__(self, work: Work, data: Callable[[str], Mapping[str, str]], logs: Path, home: Path) -> None:
        """Take the job's code, what gives each site its data, the folder of the logs, and that of the sites' own."""
        self._data, self._log = data, _Log(logs)
        self._visit: Visit | None = None
        self._visitor = Visitor(work, self._load, home)

    def _load(self, digest: str) -> Model:
        visit = self._visit
        if visit is None or not digest:
            return Model({})
        return visit.model if digest == visit.question.model else visit.state

    def start(self, visit: Visit) -> Callable[[], Awaitable[Visited]]:
        """Note a visit."""
        return partial(self._done, visit)

    async def _done(self, visit: Visit) -> Visited:
        self._visit = visit
        with self._logged(visit.site), _interruptible():
            said = self._visitor.visit(visit.site, self._data(visit.site), visit.question, visit.state.digest, math.inf)
        if isinstance(said, Failed):
            return Visited(error=said.error, traceback=said.traceback)
        arrays = None if said.arrays is None else own(said.arrays)
        return Visited(arrays, said.weight, said.metrics, said.value, said.state)

    async def close(self) -> None:
        """Let every site's trainer come to its end."""
        self._visitor.close(self._logged)

    @contextmanager
    def _logged(self, site: str) -> Iterator[None]:
        self._log.site = site
        before, sys.stdout, sys.stderr = (sys.stdout, sys.stderr), self._log, self._log
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before

    async def stop(self) -> None:
        """Do nothing: what runs in this process ends with it."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let an interrupt end what runs now, and not what the event loop does next, which may be long to come."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Log(io.TextIOBase):
    """A text file for each site, which is there once something is written into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.site = ""  # the one that is written now

    def write(self, text: str) -> int:
        """Append text."""
        with (self._folder / f"{self.site}.log").open("a") as file:
            return file.write(text)
