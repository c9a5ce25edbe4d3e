"""One job's live metrics at a site: what the policy lets leave is written into a file, and sent as it grows."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import Final

from convoy.control import points
from convoy.control.points import Point
from convoy.errors import BadInput
from convoy.site.line import Line
from convoy.site.logs import LAST_S
from convoy.spec.policy import Leave
from convoy.store.points import PointsFile, Reader, read
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.wire.budget import Budget, Rate

HOUR_S: Final = 3600.0
SENT: Final = Rate(4, 1 << 20, 4, math.inf)  # 4 messages a second of one job, 16 at once: answers go between them


@dataclass(slots=True)
class Allowance:
    """How many values have left in the present hour of the clock."""

    hour: int = -1
    used: int = 0

    def take(self, count: int, per_hour: int, at: float) -> bool:
        """Use some of the hour's allowance; return whether there is as much."""
        hour = int(at // HOUR_S)
        if hour > self.hour:  # a clock that goes back gives nothing anew
            self.hour, self.used = hour, 0
        if self.used + count > per_hour:
            return False
        self.used += count
        return True


def leaving(given: Iterable[Point], leave: Leave, allowance: Allowance) -> tuple[list[Point], int]:
    """Return what of some points may leave, with rounded values, and how many values are held back."""
    kept, held_back = [], 0
    live = leave.live if leave.metrics else None
    for point in given:
        found = {} if live is None else {key: value for key, value in point.values.items() if live.allows(key)}
        if found and live is not None and not allowance.take(len(found), live.per_hour, point.at):
            found = {}
        held_back += len(point.values) - len(found)
        if found and live is not None:
            kept.append(replace(point, values={key: live.rounded(value) for key, value in found.items()}))
    return kept, held_back


@dataclass(slots=True)
class JobPoints:
    """The points of one job here. Only what may leave is ever written; the file is removed with the job."""

    job: str
    line: Line
    leave: Callable[[], Leave]  # what the policy says now; raises `BadInput`
    say: Callable[[str], None]  # writes a line into the job's log
    path: InitVar[Path]
    wanted: InitVar[int] = 0  # the number of the next point that the server wants
    file: PointsFile = field(init=False)
    clock: Callable[[], float] = time.time  # seconds since the epoch
    round: int = 0  # of the task that the trainer has, or had last
    left: int = 0  # values that were written so that they leave
    held_back: int = 0  # values that stay
    _open: bool = False  # the job is accepted
    _allowance: Allowance = field(default_factory=Allowance)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _unsent: Reader = field(init=False)

    def __post_init__(self, path: Path, wanted: int) -> None:
        """Go on with a file, and count what has left in this hour: it counts also after a restart of the site."""
        self.file = PointsFile(path)
        self._unsent = Reader(self.file)
        self.resumed(wanted)
        earlier = Reader(self.file)
        while lines := earlier.piece():
            for point in read(lines):
                self._allowance.take(len(point.values), sys.maxsize, point.at)

    def open(self) -> None:
        """Send points from now on."""
        self._open = True
        self._news.set()

    def take(self, given: pb.Points) -> None:
        """Write what may leave of what the trainer has measured. Raises `RemoteFault` for an invalid message."""
        found = values.points_of(given, self.round, self.clock())
        try:
            kept, held_back = leaving(found, self.leave(), self._allowance)
        except BadInput:  # the policy cannot be read
            kept, held_back = [], sum(len(point.values) for point in found)
        if held_back and not self.held_back:
            self.say("some values of live metrics stay here, because of the site's policy")
        self.held_back += held_back
        self.left += sum(len(it.values) for it in kept)
        first = self.file.next
        self.file.append(b"".join(points.write(replace(it, number=first + n)) for n, it in enumerate(kept)))
        self._news.set()

    def resumed(self, number: int) -> None:
        """Continue after a reconnect; the server wants the point with this number next."""
        self._unsent.seek(number)
        self.file.next = max(self.file.next, number)
        self._news.set()

    async def pump(self) -> None:
        """Send new points, until cancelled."""
        budget = Budget(SENT)
        while True:
            await self._news.wait()
            self._news.clear()
            await self._send(budget)

    async def close(self) -> None:
        """Send the last points, as far as the server accepts them in time; say how many values were held back."""
        if self.held_back:
            self.say(f"{self.held_back} values of live metrics stayed here, because of the site's policy")
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._send(None)

    async def _send(self, budget: Budget | None) -> None:
        while self._open and self.line.connected.is_set() and (lines := self._unsent.piece()):
            self.line.send(pb.Up(points=pb.PointLines(job=self.job, lines=lines)))
            await self.line.room()  # unsent points stay in the file
            if budget is not None:
                await budget.spend(len(lines))
