"""The process that sends all jobs of a server to experiment trackers; it has a token to read with, and no key.

Its server starts it in a sandbox and writes lines on a socket pair: first what to do, as JSON, then the id of each job
that is submitted. When the other end closes, this process ends. What it prints goes to the server's log.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convoy import errors
from convoy.admin import job_reference, token_access
from convoy.admin.token_access import TokenAccess
from convoy.errors import ConvoyError, NotFound
from convoy.spec.printable import one_line
from convoy.trackers import following
from convoy.trackers.choice import Chosen
from convoy.trackers.mlflow import hidden
from convoy.trackers.reading import JobSource
from convoy.wire.backoff import FAILING, Backoff

if TYPE_CHECKING:
    from convoy.trackers.port import Tracker

REQUESTS: Final = 40  # at a time, of the 64 that the server answers for one caller
STREAMS: Final = 2  # of each job, for each tracker
NEWEST: Final = 1000  # jobs that a start looks at
KEPT: Final = 10_000  # ids of jobs that all trackers have
FIRST_S: Final = 60.0  # before a job is sent again to a tracker that refused it; each pause is twice the one before
LONGEST_S: Final = 3600.0
STATE: Final = "tracked.json"
MAX_LINE: Final = 1 << 20  # bytes of the first line


@dataclass(slots=True)
class Done:
    """Which jobs all trackers have, in a file; `since` is when it was made: jobs that ended before are not sent."""

    path: Path
    since: float
    jobs: dict[str, None] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, now: float) -> Done:
        """Return what the file says, or begin it."""
        if path.exists():
            said = json.loads(path.read_text())
            return cls(path, float(said["since"]), dict.fromkeys(said["jobs"]))
        made = cls(path, now)
        made._write()
        return made

    def add(self, job: str) -> None:
        """Write down that a job needs nothing more."""
        self.jobs[job] = None
        self.jobs = dict.fromkeys([*self.jobs][-KEPT:])
        self._write()

    def _write(self) -> None:
        from convoy.trust import files

        files.write(self.path, json.dumps({"since": self.since, "jobs": [*self.jobs]}).encode(), mode=0o600)


@dataclass(slots=True)
class Service:
    """Follows every job, some at a time."""

    access: TokenAccess
    chosen: Chosen
    done: Done
    group: asyncio.TaskGroup
    places: asyncio.Semaphore
    over: asyncio.Event = field(default_factory=asyncio.Event)  # the server has closed the socket
    following: set[str] = field(default_factory=set)

    async def begin(self) -> None:
        """Follow the jobs that are there and not done."""
        async with token_access.connect(self.access) as client:
            for job in reversed(await client.jobs(count=NEWEST)):
                if job.state not in job_reference.ENDED or job.ended_at >= self.done.since:
                    self.follow(job.id)

    def follow(self, job: str) -> None:
        """Follow a job, unless it is followed or done."""
        if job not in self.following and job not in self.done.jobs:
            self.following.add(job)
            self.group.create_task(self._follow(job))

    async def _follow(self, job: str) -> None:
        """Follow a job until all trackers have it; one that refused it is asked again, ever more rarely."""
        lacks: set[int] | None = None  # places of trackers; None: all
        backoff = Backoff(LONGEST_S, FIRST_S, FAILING)
        while True:
            async with self.places, token_access.connect(self.access) as client:
                source = JobSource(client, job, _tell)
                asked = [(at, one) for at, one in enumerate(self.chosen.trackers()) if lacks is None or at in lacks]
                ends = await asyncio.gather(*(self._one(source, tracker) for _, tracker in asked))
            lacks = {at for (at, _), has in zip(asked, ends, strict=True) if not has}
            if not lacks:
                break
            await backoff.wait(self.over)
        self.done.add(job)

    async def _one(self, source: JobSource, tracker: Tracker) -> bool:
        """Follow a job for one tracker; return whether it needs nothing more."""
        try:
            await following.follow(source, tracker, _tell)
        except NotFound:  # somebody has deleted the job
            return True
        except errors.Refused as problem:
            _tell(f"job {source.job[:8]} is not sent to {tracker.name}: {errors.line(problem)}")
            return False
        except errors.Unreachable:  # our server stops, or it does not know us any more
            raise
        except Exception as problem:  # noqa: BLE001 - a supervisor: one job or library must not end all others
            why = f"{type(problem).__name__}: {hidden(str(problem))}"
            _tell(f"job {source.job[:8]} is not sent to {tracker.name} now: {why}")
            return False
        _tell(f"{tracker.name} has all of job {source.job[:8]}")
        return True


async def serve(sock: socket.socket) -> None:
    """Do what the server says on a socket, until it closes it."""
    reader, _writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE)
    said: Mapping[str, Any] = json.loads(await reader.readline())
    chosen = Chosen(**said["trackers"])
    every = max(len([*chosen.trackers()]), 1)
    async with asyncio.TaskGroup() as group:
        places = asyncio.Semaphore(max(REQUESTS // (STREAMS * every), 1))
        done = Done.open(Path(STATE), time.time())
        service = Service(TokenAccess.read(said["server"]), chosen, done, group, places)
        group.create_task(service.begin())
        while line := await reader.readline():
            service.follow(line.decode("ascii").strip())
        service.over.set()
        os._exit(0)  # the server has ended; a library may be in the middle of a call that no one can interrupt


def _tell(text: str) -> None:
    print(one_line(text), flush=True)  # noqa: T201 - the server's log


def main() -> None:
    """Serve the server that has started this process."""
    with socket.socket(fileno=int(os.environ.pop("CONVOY_WORKER_FD"))) as sock:
        try:
            asyncio.run(serve(sock))
        except* ConvoyError as problems:
            for problem in problems.exceptions:
                _tell(errors.line(problem))
            os._exit(1)
