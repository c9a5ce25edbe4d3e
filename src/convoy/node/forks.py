"""A node's process that forks its workers: started when it is first needed, and again if somebody has ended it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from convoy.node.child import Child
from convoy.worker import forks, linux

TRIES: Final = 2  # of one start, where that process has ended meanwhile
LOST: Final = "the process that starts workers has ended twice; this node's error output may say why"


class ForkServer:
    """Forks workers from a process that has loaded what they need; as a context it ends that process."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        """`modules` are loaded ahead; `environment` is what every worker has in its own, whatever its job."""
        self._modules = modules
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._asked = 0  # requests without an answer

    def prepare(self) -> None:
        """Start the process, unless it runs or the machine cannot: the first worker then says why not."""
        with suppress(OSError):
            self.begin()

    def begin(self) -> None:
        """Start the process, unless it runs; it loads the modules while this one goes on. Raises `OSError`."""
        if self._line is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", forks.__name__, *self._modules],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**self._environment, forks.DESCRIPTOR: str(theirs.fileno())},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            ours.setblocking(False)
            self._line = ours

    async def start(self, module: str, folder: Path, env: Mapping[str, str], sock: int, output: int) -> Child:
        """Fork a worker that runs `module` in `folder`, with a socket, and a pipe for what it prints.

        A cancelled caller leaves no process behind. Raises `OSError`.
        """
        order = os.memfd_create("order")
        with os.fdopen(order, "wb") as file:
            file.write(json.dumps({"module": module, "folder": str(folder), "env": dict(env)}).encode())
            file.flush()
            file.seek(0)
            asking = asyncio.ensure_future(self._ask(order, sock, output))
            try:
                return Child(await asyncio.shield(asking))
            except asyncio.CancelledError:
                with suppress(OSError):
                    child = Child(await asking)
                    child.kill(signal.SIGKILL, session=False)
                    await child.exited()
                    child.collect()
                raise

    async def _ask(self, *descriptors: int) -> int:
        """Return the process number of a new worker. Raises `OSError`."""
        for left in reversed(range(TRIES)):
            self.begin()
            asked = self._process
            try:
                return await self._answer(descriptors)
            except ConnectionError as problem:
                if self._process is asked:  # another request may have begun it again
                    self.end()
                if not left:
                    raise ConnectionError(LOST) from problem
                _warn()
        raise AssertionError  # the last try returns or raises

    async def _answer(self, descriptors: tuple[int, ...]) -> int:
        assert self._line is not None  # noqa: S101 - `begin`
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            self._adopt(1)  # the worker, whose parent ends
            try:
                with theirs:
                    socket.send_fds(self._line, [b"\0"], [*descriptors, theirs.fileno()])
                said = await asyncio.get_running_loop().sock_recv(ours, forks.NUMBER.size)
            finally:
                self._adopt(-1)  # not what others leave
        if not said:
            raise ConnectionResetError
        (number,) = forks.NUMBER.unpack(said)
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        return int(number)

    def _adopt(self, more: int) -> None:
        self._asked += more
        linux.adopt_orphans(adopt=self._asked > 0)

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


def _warn() -> None:
    import structlog  # takes a while to load, which a simulation need not wait for

    structlog.get_logger().warning("the process that starts workers has ended; it is started again")
