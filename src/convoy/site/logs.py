"""One job's log at a site: a file that is sent as it grows, or stays where the policy says so."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from convoy.node.capped import CappedLog
from convoy.node.lines import Stamper
from convoy.site.line import Line
from convoy.wire import convoy_pb2 as pb

CHUNK: Final = 64 << 10  # bytes of log in one message
LAST_S: Final = 30.0  # for the last lines to be sent


@dataclass(slots=True)
class JobLog:
    """The output of the job's code; nothing of it leaves before the job is accepted."""

    job: str
    site: str
    folder: Path
    line: Line
    sent: int = 0  # bytes that the server has
    _leaves: bool | None = None  # None: not known yet
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _stamp: Stamper = field(default_factory=lambda: Stamper(time.time))

    @property
    def file(self) -> Path:
        """The file of lines that are sent to the server."""
        return self.folder / "log.txt"

    @property
    def kept(self) -> Path:
        """The file of lines that stay at the site; it is removed with the job."""
        return self.folder / "kept.txt"

    def open(self, *, leaves: bool) -> None:
        """Send the log from now on; or keep here what is not sent yet, and send one line that says so."""
        self._leaves = leaves
        if not leaves and not self.kept.exists():
            with suppress(OSError):
                os.truncate(self.file, min(self.sent, _size(self.file)))
            CappedLog(self.file).append(self._stamp.lines(f"convoy: the log stays at {self.site}\n".encode()))
            self.kept.touch()
        self._news.set()

    def print(self, data: bytes) -> None:
        """Add what was printed, each line with its time."""
        self._write(self._stamp.lines(data))

    async def close(self) -> None:
        """Send the last lines, as far as the server accepts them in time."""
        self._write(self._stamp.flush())
        self._target.close(self._stamp.now())
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._send()

    def resumed(self, offset: int) -> None:
        """Continue after a reconnect; the server has so many bytes."""
        self.sent = offset
        self._news.set()

    async def pump(self) -> None:
        """Send new lines, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._send()

    @property
    def _target(self) -> CappedLog:
        return CappedLog(self.kept if self._leaves is False else self.file)

    def _write(self, lines: bytes) -> None:
        self._target.append(lines)
        self._news.set()

    async def _send(self) -> None:
        while self._leaves is not None and self.line.connected.is_set() and (data := self._unsent()):
            self.line.send(pb.Up(log=pb.Log(job=self.job, offset=self.sent, data=data)))
            self.sent += len(data)
            await self.line.room()  # unsent lines stay in the file

    def _unsent(self) -> bytes:
        try:
            with self.file.open("rb") as file:
                file.seek(self.sent)
                return file.read(CHUNK)
        except FileNotFoundError:
            return b""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
