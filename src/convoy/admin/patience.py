"""How long a client tries again, and when."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final

from convoy.errors import Unreachable

PATIENCE_S: Final = 60.0  # how long a client tries again without any success, unless it is told otherwise


@dataclass(slots=True)
class Patience:
    """How long to try again, and when: jittered, doubling from 0.1 s to `longest_s`, anew after each success."""

    limit_s: float
    longest_s: float = 5.0
    _failures: int = 0
    _since: float = 0.0

    def success(self) -> None:
        """Begin anew."""
        self._failures = 0

    async def wait(self, problem: Unreachable) -> None:
        """Wait before the next attempt; raises the problem once the limit has passed."""
        now = time.monotonic()
        if not self._failures:
            self._since = now
        pause_s = min(0.1 * 2**self._failures, self.longest_s) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, no secret
        if now + pause_s - self._since > self.limit_s:
            raise problem
        self._failures += 1
        await asyncio.sleep(pause_s)  # nobody tells when a server that is gone is back
