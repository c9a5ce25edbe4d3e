"""Places: a limit in all, a limit for each person, and some that are reserved for operators."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from convoy.errors import Refused, Unreachable


@dataclass(slots=True)
class Slots:
    """Places of one kind: `total` in all, `each` for one holder; the last `reserve` are only for operators."""

    what: str  # for messages: what the places are for
    total: int
    each: int
    reserve: int
    _taken: Counter[str] = field(default_factory=Counter)
    _waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def _free(self, holder: str, *, operator: bool) -> bool:
        room = self.total - (0 if operator else self.reserve)
        return self._taken[holder] < self.each and self._taken.total() < room

    @asynccontextmanager
    async def queued(self, holder: str, *, operator: bool) -> AsyncIterator[None]:
        """Hold a place; wait for it while there is none."""
        while not self._free(holder, operator=operator):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.add(turn)
            try:
                await turn
            finally:
                self._waiting.discard(turn)
        with self.taken(holder, operator=operator):
            yield

    @contextmanager
    def taken(self, holder: str, *, operator: bool) -> Iterator[None]:
        """Hold a place. Raises `Refused` beyond `each`, `Unreachable` when none is left."""
        if self._taken[holder] >= self.each:
            raise Refused(
                f"{holder} has too many {self.what} open",
                why=f"the limit is {self.each} at a time",
                fix="close some of them, or wait until they end",
            )
        if self._taken.total() >= self.total - (0 if operator else self.reserve):
            raise Unreachable(
                f"the server accepts no more {self.what} now",
                why=f"{self._taken.total()} are open",
                fix="try again in a moment",
            )
        self._taken[holder] += 1
        try:
            yield
        finally:
            self._taken[holder] -= 1
            if not self._taken[holder]:
                del self._taken[holder]
            for turn in self._waiting:  # the others continue to wait
                if not turn.done():
                    turn.set_result(None)
