"""The budget of a peer: messages and bytes a second; a peer that exceeds it is slowed down, then disconnected."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from convoy.errors import RemoteFault

PATIENCE_S: Final = 30.0  # of exceeding the rate without a break: then the peer is disconnected
REST_S: Final = 10.0  # for which a disconnected peer is told why and not admitted


@dataclass(frozen=True, slots=True)
class Rate:
    """Messages and bytes a second; `burst_s` seconds' worth may come at once."""

    frames_s: float
    bytes_s: float
    burst_s: float
    patience_s: float = PATIENCE_S
    what: str = "messages"


class Budget:
    """The budget of one peer. Every loop that reads from a peer spends before it handles a message."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with a full burst."""
        self._rate = rate
        self._clock = clock
        self._at = clock()
        self._frames = rate.frames_s * rate.burst_s
        self._bytes = rate.bytes_s * rate.burst_s
        self._since: float | None = None  # since when it exceeds its rate
        self._shut = -math.inf  # until when it is not admitted

    async def spend(self, size: int, *, frames: float = 1.0) -> None:
        """Pay for a message of `size` bytes that counts as `frames` messages; let other tasks run meanwhile.

        Waits while the peer is over its budget. Raises `RemoteFault` after `patience_s` of that.
        """
        await asyncio.sleep(self.pay(size, frames=frames))

    def pay(self, size: int, *, frames: float = 1.0) -> float:
        """Pay, and return how many seconds to wait before the peer's next message. Raises as `spend` does."""
        now, rate = self._clock(), self._rate
        if now < self._shut:
            raise self._exceeded()
        gone, self._at = now - self._at, now
        self._frames = min(self._frames + gone * rate.frames_s, rate.frames_s * rate.burst_s) - frames
        self._bytes = min(self._bytes + gone * rate.bytes_s, rate.bytes_s * rate.burst_s) - size
        if self._frames >= rate.frames_s * rate.burst_s / 2:
            self._since = None
        elif self._frames < 0:
            self._since = now if self._since is None else self._since
            if now - self._since >= rate.patience_s:
                self._since, self._shut = None, now + REST_S
                raise self._exceeded()
        return max(-self._frames / rate.frames_s, -self._bytes / rate.bytes_s, 0.0)

    def takes(self, *, within_s: float) -> float | None:
        """Pay for one message that may be dropped; None, and nothing is paid, if it would have to wait for longer."""
        wait = self.pay(0)
        if wait <= within_s:
            return wait
        self._frames += 1
        return None

    def _exceeded(self) -> RemoteFault:
        rate = self._rate
        return RemoteFault(
            f"more than {rate.frames_s:g} {rate.what} a second arrived",
            why=f"{rate.frames_s * rate.burst_s:g} at once are allowed, and more than that for {rate.patience_s:g} s",
            fix=f"send less; a new connection is accepted after {REST_S:g} s",
        )


class Budgets:
    """A budget for each of many peers by name; if there are too many, the least recently used are forgotten."""

    def __init__(self, rate: Rate, most: int) -> None:
        """Start without budgets."""
        self._rate = rate
        self._most = most
        self._of: dict[str, Budget] = {}

    def of(self, peer: str) -> Budget:
        """Return a peer's budget."""
        found = self._of.pop(peer, None) or Budget(self._rate)
        self._of[peer] = found  # the most recently used
        if len(self._of) > self._most:
            del self._of[next(iter(self._of))]
        return found
