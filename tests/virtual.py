"""An event loop in virtual time: where it would wait for a timer, its clock jumps there; nothing takes real time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: the time of a wait is added to `now` instead."""

    now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and no timer is set")
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Jumping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that uses timers, and neither threads nor other processes."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


async def until(at_s: float) -> None:
    """Wait until a time after the start."""
    await asyncio.sleep(at_s - asyncio.get_running_loop().time())
