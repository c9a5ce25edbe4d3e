"""The two interfaces of following a job: where its events come from, and the experiment tracker they go to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Protocol

from convoy.errors import Unreachable
from convoy.trackers.events import About, Batch, End, Place, Point, Round


class Away(Unreachable):
    """An experiment tracker does not answer now: what it lacks is sent again later."""


class Tracker(Protocol):
    """One experiment tracker and one job. Its calls block, and are made one after the other from any thread.

    Every call but `close` raises `Away` for a tracker that may answer later; then `begin` is called again, and
    whatever it does not name is sent again. Other errors are final.
    """

    @property
    def name(self) -> str:
        """The tracker and where it is, for messages."""
        ...

    @property
    def wants_results(self) -> bool:
        """Whether `finish` does something with results; else they are not fetched."""
        ...

    def begin(self, about: About) -> Place:
        """Open the job's run, which is made at the first call; return what has arrived there. Raises `Refused`."""
        ...

    def write(self, batch: Batch) -> None:
        """Add rounds and points which the tracker lacks."""
        ...

    def finish(self, end: End, results: Path | None) -> None:
        """Add the end of the job and its results, a folder; afterwards `begin` returns a place that has `ended`."""
        ...

    def close(self) -> None:
        """Let go of files and connections; the run stays as it is. Raises nothing."""
        ...


class Source(Protocol):
    """One job, as somebody may read it."""

    async def about(self) -> About:
        """Return what is known of the job already."""
        ...

    def progress(self, after: int) -> AsyncGenerator[Round | End, None]:
        """Yield the rounds after a number, each with all of its sites, and the job's end as the last."""
        ...

    def points(self, after: Mapping[str, int]) -> AsyncGenerator[Point, None]:
        """Yield the points after each site's number, until the job has ended."""
        ...

    async def results(self, folder: Path) -> Path | None:
        """Fetch the results of an ended job into a folder and return it; None where there are none, or none for us."""
        ...
