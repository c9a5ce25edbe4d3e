"""A process that has loaded what workers need, and forks each of them: a worker then starts in milliseconds.

    node ── this process ── middle ── keeper      the middle ends at once, and the keeper becomes the node's own child
    node ── keeper ── …                           what then happens is in `start.py`

It holds no key, and reads nothing of a job: a worker reads its own order, so that no worker's memory has another's.
"""

from __future__ import annotations

import errno
import gc
import importlib
import json
import os
import socket
import struct
import sys
from contextlib import ExitStack, suppress
from typing import BinaryIO, Final

from convoy.worker import linux, start

DESCRIPTOR: Final = "CONVOY_FORKS_FD"  # in this process's environment: its end of the socket pair with the node
NUMBER: Final = struct.Struct("=i")  # the answer to a request: the keeper's process number, or an error's below 0
DESCRIPTORS: Final = 4  # of a request: the order, the worker's socket, the pipe for its output, where the answer goes
NAME: Final = "convoy-forks"  # of this process, as `top` and `ps -o comm` show it
WORKER: Final = "convoy-worker"  # of those that it forks
KEPT: Final = ("LC_CTYPE",)  # what Python itself sets when it starts


def main() -> None:
    """Load the modules that the command line names, then fork a worker for each request until the node hangs up."""
    start.die_with_node()
    linux.set_name(NAME)
    node = socket.socket(fileno=int(os.environ.pop(DESCRIPTOR)))
    gc.disable()  # nothing here is garbage, and a search would copy the memory that workers share; `start` enables it
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()
    given = _serve(node)
    if given is not None:
        _become(*given)


def _serve(node: socket.socket) -> list[int] | None:
    """Return in each keeper with the descriptors of its order, and here with None once the node has hung up."""
    while True:
        message, given, _, _ = socket.recv_fds(node, 1, DESCRIPTORS)
        if not message:
            return None
        with socket.socket(fileno=given.pop()) as answer:
            if not _fork(answer):
                node.close()
                return given
        for descriptor in given:
            os.close(descriptor)


def _fork(answer: socket.socket) -> bool:
    """Fork a keeper that is a child of the node, and answer with its number, or with an error's; return False there.

    A keeper whose number the node cannot have received ends.
    """
    try:
        with ExitStack() as pipes:
            waits, goes, reads, writes = (pipes.enter_context(it) for _ in range(2) for it in _pipe())
            if (middle := os.fork()) == 0:
                _keeper(waits, goes, writes)
                return False
            writes.close()
            os.waitpid(middle, 0)  # and the keeper has its new parent
            with suppress(OSError):  # the node, or the keeper, has ended
                answer.send(reads.read() or _error(errno.EAGAIN))  # nothing: it was killed while it forked
                goes.write(b"\0")
    except OSError as problem:
        with suppress(OSError):
            answer.send(_error(problem.errno))
    return True


def _keeper(waits: BinaryIO, goes: BinaryIO, writes: BinaryIO) -> None:
    """Fork once more, and return in the last process alone, once it has told its number and may go on."""
    try:
        if os.fork():
            os._exit(0)
        linux.set_name(WORKER)
        os.setsid()  # before the node knows its number, and sends a signal to the session
        writes.write(NUMBER.pack(os.getpid()))
        writes.close()
        goes.close()
        if not waits.read(1):
            os._exit(1)
    except BaseException as problem:  # noqa: BLE001 - whatever it is, this process must not serve
        with suppress(OSError, ValueError):  # it is closed: the number was told before
            writes.write(_error(problem.errno if isinstance(problem, OSError) else None))
        os._exit(1)


def _error(number: int | None) -> bytes:
    return NUMBER.pack(-(number or errno.EAGAIN))


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    """Return both ends of a pipe: what one reads, and what one writes to without a buffer."""
    reads, writes = os.pipe()
    return os.fdopen(reads, "rb", buffering=0), os.fdopen(writes, "wb", buffering=0)


def _become(order: int, sock: int, output: int) -> None:
    """Be the worker of an order, as a process that `python -m convoy.worker.start` has begun would be."""
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.set_inheritable(sock, True)
    os.lseek(order, 0, os.SEEK_SET)
    with os.fdopen(order, encoding="utf-8") as file:
        its = json.load(file)
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    os.environ.clear()
    os.environ.update(kept | its["env"], CONVOY_WORKER_FD=str(sock))
    os.chdir(its["folder"])
    if random := sys.modules.get("numpy.random"):
        random.seed()  # each worker's own, as Python's module does by itself
    sys.argv[1:] = [its["module"]]
    start.main()


if __name__ == "__main__":
    main()
