"""A child process of a node: its end is waited for without a thread, and nobody else can be taken for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable


class Child:
    """A child process. Until `collect` its number belongs to no other process."""

    def __init__(self, pid: int, wait: Callable[[], int] | None = None) -> None:
        """`wait` collects it and returns its exit code, below 0 for a signal; without one, the system is asked."""
        self.pid = pid
        self._wait = wait
        self._gone = asyncio.Event()
        self._collected = False
        self._descriptor = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._ended)

    async def exited(self) -> None:
        """Wait for its end, even if others hold its pipes."""
        await self._gone.wait()

    def kill(self, sign: signal.Signals, *, session: bool) -> None:
        """Send it a signal, or to its whole session; nothing happens once it is collected."""
        if self._collected:
            return
        try:
            (os.killpg if session else os.kill)(self.pid, sign)
        except ProcessLookupError:  # nobody of the session is left
            return

    def collect(self) -> int:
        """Return its exit code, below 0 for a signal, once it has ended."""
        self._collected = True
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) if self._wait is None else self._wait()

    def _ended(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._gone.set()
