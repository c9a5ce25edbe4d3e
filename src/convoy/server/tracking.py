"""The process that sends all jobs to experiment trackers: started in a sandbox, and again whenever it ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from convoy.admin.logins import Logins
from convoy.admin.port import Person
from convoy.admin.token_access import TokenAccess
from convoy.node.isolation import Walls, probe
from convoy.spec.kit import Kit
from convoy.spec.printable import one_line
from convoy.spec.settings import Grants, Settings, Tracked
from convoy.trackers import following, service
from convoy.trackers.choice import Chosen
from convoy.wire.backoff import FAILING, Backoff
from convoy.worker.sandbox import VARIABLE

READER: Final = Person(name="server:tracker", org="", role="tracker")
LONGEST_S: Final = 60.0  # between two starts of a process that ends at once
MAX_UNREAD: Final = 64 << 10  # bytes of job ids for a process that does not read them; it is ended then
MAX_LINE: Final = 16 << 10  # bytes of a line that it prints
KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(slots=True)
class Tracking:
    """Starts the process and tells it of jobs; `log` is a structlog logger."""

    tracked: Tracked
    folder: Path
    walls: Walls
    access: TokenAccess
    log: Any
    _writer: asyncio.StreamWriter | None = None
    _backoff: Backoff = field(default_factory=lambda: Backoff(LONGEST_S, growth=FAILING))

    def submitted(self, job: str) -> None:
        """Tell the process of a new job; one that does not run lists the jobs when it starts."""
        if self._writer is None:
            return
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD:
            self._writer.transport.abort()
        else:
            self._writer.write(f"{job}\n".encode())

    async def run(self) -> None:
        """Keep the process running until this is cancelled."""
        while True:
            began = time.monotonic()
            status: int | str
            try:
                status = await self._once()
            except OSError as problem:  # no descriptor, memory or process is left now
                status = str(problem)
            if time.monotonic() - began > LONGEST_S:
                self._backoff.reset()
            pause_s = self._backoff.pause_s()
            self.log.warning("the process for experiment trackers ended", status=status, again_in_s=round(pause_s, 1))
            await asyncio.sleep(pause_s)  # nothing reports when the cause is gone

    async def _once(self) -> int:
        """Start the process, pass on what it prints, and return its exit status."""
        ours, theirs = socket.socketpair()
        process = None
        try:
            with theirs:
                _, self._writer = await asyncio.open_unix_connection(sock=ours)
                process = await self._started(theirs)
            tracked = self.tracked
            trackers = Chosen(tracked.tensorboard, tracked.mlflow, tracked.wandb)
            begin = {"server": asdict(self.access), "trackers": asdict(trackers)}
            self._writer.write(json.dumps(begin).encode() + b"\n")
            await self._heard(process)
            return await process.wait()
        finally:
            if self._writer is None:
                ours.close()
            else:
                self._writer.close()
                self._writer = None
            if process is not None and process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def _started(self, theirs: socket.socket) -> asyncio.subprocess.Process:
        """Start the process, in a folder without what an earlier one was fetching when it was killed."""
        await asyncio.to_thread(_swept, self.folder)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "convoy.worker.start", service.__name__),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.folder,
            env=self._environment(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            limit=MAX_LINE,
        )

    async def _heard(self, process: asyncio.subprocess.Process) -> None:
        """Write what the process prints into the server's log."""
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a longer line; the reader has dropped it
                continue
            if not line:
                return
            self.log.info("experiment trackers", said=one_line(line.decode(errors="replace").strip()))

    def _environment(self, descriptor: int) -> dict[str, str]:
        """Return what Python and the trackers' libraries need, and nothing else of the server's environment."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        write = [str(self.folder)] + ([self.tracked.tensorboard] if self.tracked.tensorboard else [])
        box = self.walls.sandbox(read=(), write=write, scratch=self.folder)
        own = {
            VARIABLE: box.to_json(),
            "CONVOY_NODE_PID": str(os.getpid()),
            "CONVOY_WORKER_FD": str(descriptor),
            "WANDB_DIR": str(self.folder),
        }
        return {**kept, **self.walls.environment(self.folder), **self.tracked.env, **own}


def _swept(folder: Path) -> None:
    """Remove the results that a process was fetching when it was killed."""
    for path in folder.glob(f"{following.FETCHED}*"):
        shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def running(
    kit: Kit, settings: Settings, logins: Logins, submitted: list[Callable[[str], None]]
) -> AsyncIterator[None]:
    """Keep the process running for as long as the context lasts, if the settings name a tracker.

    Whoever accepts a job calls what is in `submitted`.
    """
    if settings.track is None:
        yield
        return
    root_pem, token = kit.root_file.read_bytes().decode(), logins.lend(READER)
    access = TokenAccess(kit.project, settings.listen_host, kit.admin_port, root_pem, token)
    tracking = await asyncio.to_thread(_build, settings.track, settings.workspace, access, kit.root)
    submitted.append(tracking.submitted)
    task = asyncio.create_task(tracking.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _build(tracked: Tracked, workspace: Path, access: TokenAccess, kit: Path) -> Tracking:
    """Return the part that runs the process, with a sandbox that hides what the server has."""
    folder, log = workspace / "tracking", structlog.get_logger()
    for path in (folder, *([Path(tracked.tensorboard)] if tracked.tensorboard else [])):
        path.mkdir(parents=True, exist_ok=True)
    isolation = probe(folder)
    for part, why in isolation.missing.items():
        log.warning("the process for experiment trackers is not fully isolated here", part=part, reason=why)
    walls = Walls.build(isolation, Grants(network=True), (kit, workspace))
    return Tracking(tracked, folder, walls, access, log)
