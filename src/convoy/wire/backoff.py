"""The wait between two attempts: jittered and growing to a limit, so that sites do not reconnect at once."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from convoy.errors import Unreachable

FIRST_S: Final = 0.1
AWAITED: Final = 1.3  # from one wait to the next: what comes back is noticed after a third of its absence, on average
FAILING: Final = 2.0  # the same, for what fails whenever it is tried
LONGEST_S: Final = 5.0
PATIENCE_S: Final = 60.0  # how long a client tries again without success, by default


@dataclass(slots=True)
class Backoff:
    """Counts attempts that failed one after the other."""

    longest_s: float = LONGEST_S
    _next_s: float = FIRST_S
    growth: float = AWAITED

    def pause_s(self) -> float:
        """Return how long to wait before the next attempt; the wait after that is longer."""
        pause_s = self._next_s * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, no secret
        self._next_s = min(self._next_s * self.growth, self.longest_s)
        return pause_s

    async def wait(self, over: asyncio.Event) -> None:
        """Wait for the next attempt, or until trying has no use any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.pause_s()):
                await over.wait()

    def reset(self) -> None:
        """Start again after a successful attempt."""
        self._next_s = FIRST_S


@dataclass(slots=True)
class Patience:
    """Ends attempts that have failed for `limit_s` without a success between them."""

    limit_s: float
    backoff: Backoff = field(default_factory=Backoff)
    _since: float | None = None  # the first failure after the last success

    def success(self) -> None:
        """Begin anew."""
        self._since = None
        self.backoff.reset()

    async def wait(self, problem: Unreachable) -> None:
        """Wait before the next attempt; raises the problem once the limit has passed."""
        now, pause_s = time.monotonic(), self.backoff.pause_s()
        if self._since is None:
            self._since = now
        if now + pause_s - self._since > self.limit_s:
            raise problem
        await asyncio.sleep(pause_s)  # nothing reports when a lost server is back
