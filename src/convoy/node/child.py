"""A child process of a node: its end is waited for without a thread, and nobody else can be taken for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

UNKNOWN: Final = 255  # the exit code of a child that somebody else has collected, as asyncio says it


class Child:
    """A child process. Until `collect` its number belongs to no other process."""

    def __init__(self, pid: int, wait: Callable[[], int] | None = None) -> None:
        """`wait` collects it and returns its exit code, below 0 for a signal; without one, the system is asked.

        Raises `OSError` where there is no descriptor left; the child is then ended.
        """
        self.pid = pid
        self._wait = wait
        self._gone = asyncio.Event()
        self._collected = self._abandoned = False
        try:
            self._descriptor = os.pidfd_open(pid)
        except OSError:
            self.kill(signal.SIGKILL, session=False)
            self.collect()
            raise
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

    def abandon(self, sign: signal.Signals) -> None:
        """Send it a signal, and collect it when it has ended: nobody else waits for it."""
        self._abandoned = True
        self.kill(sign, session=False)
        if self._gone.is_set():
            self.collect()

    def collect(self) -> int:
        """Return its exit code, below 0 for a signal, once it has ended."""
        self._collected = True
        if self._wait is not None:
            return self._wait()
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:  # the process that this one runs in collects all of its children, or ignores them
            return UNKNOWN

    def _ended(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._gone.set()
        if self._abandoned:
            self.collect()
