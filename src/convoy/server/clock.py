"""The clock that decides: it stands still while the server itself can do nothing, so that no site pays for that."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from convoy.control.clock import Now

BEAT_S: Final = 1.0  # while something is due, the clock is looked at this often
SLACK_S: Final = 1.0  # that a beat may be late, and that a write to the ledger may take, on a busy machine


class Clock:
    """Counts the seconds in which this process ran and its ledger took records.

    A process can be stopped (a paused virtual machine or container), its event loop can be held up, and a disk or a
    database can take a minute for one write. Meanwhile no question is sent and no answer is read. By `time.monotonic`
    the patience of a job would run out in that time, and its sites would be left out for what they have not done.
    """

    def __init__(self, read: Callable[[], float] = time.monotonic) -> None:
        """`read` returns seconds that only grow."""
        self._read = read
        self._lost = 0.0
        self._beat = math.inf  # when the next one is expected, as `read` counts
        self._began: float | None = None  # a write to the ledger that has not ended, as `read` counts

    def now(self) -> Now:
        """Return this instant; the seconds that decide never go back."""
        return Now(mono=self._mono(), wall=time.time())

    def until(self, due: float) -> float:
        """Return in how many seconds to look at the clock again: at the next beat, or at `due` if that is sooner."""
        seconds = min(max(due - self._mono(), 0.0), BEAT_S)
        self._beat = self._read() + seconds
        return seconds

    def rest(self) -> None:
        """Expect no beat: nothing is due."""
        self._beat = math.inf

    def leave_out(self, since: float) -> None:
        """Count nothing of the time from an instant (of `read`) until now: the server was starting."""
        self._lost = self._read() - since

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count no more than `SLACK_S` of the time in here."""
        at = self._read()
        self._notice(at)  # so that what was missed before is not taken for a part of this
        self._began = at
        try:
            yield
        finally:
            at = self._read()
            self._notice(at)
            self._lost += self._held(at)
            self._began = None

    def _mono(self) -> float:
        at = self._read()
        self._notice(at)
        return at - self._lost - self._held(at)

    def _notice(self, at: float) -> None:
        """Take what this process did not run out of the count, if the beat has not come for too long."""
        stopped = at - self._beat - SLACK_S
        if stopped > 0:
            self._lost += stopped
            self._beat += stopped
            if self._began is not None:
                self._began += stopped

    def _held(self, at: float) -> float:
        return 0.0 if self._began is None else max(at - self._began - SLACK_S, 0.0)
