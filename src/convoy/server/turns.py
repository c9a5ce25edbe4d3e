"""Turns for transfers: a few quick peers at a time, while slow ones hold nobody up.

When many sites on a fast network pull and push at once they would all finish at the end together, with buffers for
each. Served a few at a time they finish one after the other, the first train while the last pull, and memory does not
grow with their number. A peer whose next megabyte takes longer than `LATE_S` gives its turn back and goes on without
one: there the network is the limit, not this process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

QUICK: Final = 3  # transfers at a time; measured: 2 leave a core idle now and then, 8 are as slow as all at once
LATE_S: Final = 0.02  # a round trip of this length fills the window of 1 MiB no faster than 50 MB/s


BUSY_S: Final = 0.002  # a timer that comes later than this says that the event loop is the limit


class Turns:
    """A counter of turns, first come, first served."""

    def __init__(self, count: int = QUICK) -> None:
        """Begin with all turns free."""
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> Turn:
        """Wait for a turn."""
        if self._free:
            self._free -= 1
            return Turn(self)
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.give()
            raise
        return Turn(self)

    def give(self) -> None:
        """Hand a turn to whoever waits longest."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(None)
                return
        self._free += 1


class Turn:
    """One transfer's turn; `beat` after each megabyte, `give_back` at the end."""

    def __init__(self, turns: Turns) -> None:
        """Begin now."""
        self._turns: Turns | None = turns
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(LATE_S, self._look)

    def beat(self) -> None:
        """Bytes moved."""
        self._last = self._loop.time()

    def _look(self) -> None:
        now, due = self._loop.time(), self._last + LATE_S
        if now < due:
            self._timer = self._loop.call_at(due, self._look)
        elif now > self._timer.when() + BUSY_S:  # we come late ourselves: the peer may not be the slow one
            self._timer = self._loop.call_at(now + LATE_S, self._look)
        else:
            self.give_back()

    def give_back(self) -> None:
        """End the turn; again is nothing."""
        turns, self._turns = self._turns, None
        self._timer.cancel()
        if turns is not None:
            turns.give()
