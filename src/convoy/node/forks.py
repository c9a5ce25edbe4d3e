"""A node's process that forks its workers: started when it is first needed, and again if somebody has ended it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from convoy.node.child import Child
from convoy.worker import forks, linux

TRIES: Final = 2  # of one start, where that process has ended meanwhile
START_S: Final = 30.0  # for that process to load its modules and to fork; afterwards it is ended, and started again
LOST: Final = "the process that starts workers has ended twice, or does not answer; its error output may say why"


class ForkServer:
    """Forks workers from a process that has loaded what they need; as a context it ends that process."""

    def __init__(
        self, modules: Sequence[str], environment: Mapping[str, str], lost: Callable[[], object] = lambda: None
    ) -> None:
        """`modules` are loaded ahead; `environment` is what every worker has in its own, whatever its job.

        `lost` is called when the process was not there any more, and is started again.
        """
        self._modules = modules
        self._environment = environment
        self._lost = lost
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._asking: set[asyncio.Task[Child]] = set()

    def prepare(self) -> None:
        """Start the process, unless it runs or the machine cannot: the first worker then says why not."""
        with suppress(OSError):
            self.begin()

    def begin(self) -> None:
        """Start the process, unless it runs; it loads the modules while this one goes on. Raises `OSError`."""
        if self._line is None:
            with ExitStack() as undo:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                undo.enter_context(ours)
                with theirs:
                    self._process = subprocess.Popen(
                        [sys.executable, "-P", "-m", forks.__name__, *self._modules],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        # a worker has another home: its modules are not those that the node's user has in theirs
                        env={**self._environment, forks.DESCRIPTOR: str(theirs.fileno()), "HOME": os.devnull},
                        pass_fds=[theirs.fileno()],
                        start_new_session=True,
                    )
                undo.pop_all()
            ours.setblocking(False)
            self._line = ours

    async def start(self, module: str, folder: Path, env: Mapping[str, str], sock: int, output: int) -> Child:
        """Fork a worker that runs `module` in `folder`, with a socket, and a pipe for what it prints.

        If the caller is cancelled, the worker is ended as soon as it is there. Raises `OSError`.
        """
        order = json.dumps({"module": module, "folder": str(folder), "env": dict(env)}).encode()
        asking = asyncio.create_task(self._ask(order, os.dup(sock), os.dup(output)))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(_end)
            raise

    async def _ask(self, order: bytes, sock: int, output: int) -> Child:
        """Return a new worker, and close the descriptors. Raises `OSError`."""
        with ExitStack() as stack:
            stack.callback(os.close, sock)
            stack.callback(os.close, output)
            memory = os.memfd_create("order")
            stack.callback(os.close, memory)
            os.pwrite(memory, order, 0)
            for left in reversed(range(TRIES)):
                self.begin()
                asked = self._process
                try:
                    return Child(await self._answer(memory, sock, output))
                except (ConnectionError, TimeoutError) as problem:
                    if self._process is asked:  # another request may have begun it again
                        self.end()
                    if not left:
                        raise ConnectionError(LOST) from problem
                    self._lost()
        raise AssertionError  # the last try returns or raises

    async def _answer(self, *descriptors: int) -> int:
        """Return the process number of a new worker, a child of this process. Raises `OSError`."""
        assert self._line is not None  # noqa: S101 - `begin`
        ours, theirs = socket.socketpair()
        with ours, linux.Adopting():  # the worker, whose parent ends
            ours.setblocking(False)
            with theirs:
                socket.send_fds(self._line, [b"\0"], [*descriptors, theirs.fileno()])
            async with asyncio.timeout(START_S):
                answer = await asyncio.get_running_loop().sock_recv(ours, forks.NUMBER.size)
        if not answer:
            raise ConnectionResetError
        (number,) = forks.NUMBER.unpack(answer)
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        return int(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process; workers that it has started go on."""
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _end(asking: asyncio.Task[Child]) -> None:
    """End a worker that nobody waits for any more."""
    if not asking.cancelled() and asking.exception() is None:
        asking.result().abandon(signal.SIGKILL)
