"""The wait between two attempts: jittered, so that a thousand sites do not come at once, and doubling to a limit."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

FIRST_S: Final = 0.1
LONGEST_S: Final = 5.0


@dataclass(slots=True)
class Backoff:
    """Counts attempts that failed one after the other."""

    longest_s: float = LONGEST_S
    _next_s: float = FIRST_S

    async def wait(self, over: asyncio.Event) -> None:
        """Wait for the next attempt, or until it is no use any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._next_s * random.uniform(0.5, 1.5)):  # noqa: S311 - no secret
                await over.wait()
        self._next_s = min(self._next_s * 2, self.longest_s)

    def reset(self) -> None:
        """Begin anew after an attempt that went well."""
        self._next_s = FIRST_S
