"""Processes and ports of this machine, as `convoy up` needs them: who lives, who listens, who has ended."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from convoy.node.alive import command_of, signalled
from convoy.wire.door import EVERY, opened


def memory(pid: int) -> int:
    """Return a process's resident bytes; 0 where /proc is not there."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def end(pids: Iterable[int], *, grace_s: float) -> list[int]:
    """Ask processes to leave, wait for them, kill those that stay; return the killed. Nothing polls."""
    watched: dict[int, int] = {}
    for pid in pids:
        try:
            watched[os.pidfd_open(pid)] = pid
        except ProcessLookupError:
            continue
    poll = select.poll()
    for descriptor, pid in watched.items():
        poll.register(descriptor, select.POLLIN)
        signalled(pid, signal.SIGTERM)
    staying = _wait(poll, watched, time.monotonic() + grace_s)
    for pid in staying.values():
        signalled(pid, signal.SIGKILL)
    killed = list(staying.values())
    _wait(poll, staying, time.monotonic() + 5.0)
    for descriptor in watched:
        os.close(descriptor)
    return killed


def _wait(poll: select.poll, watched: dict[int, int], deadline: float) -> dict[int, int]:
    """Wait for processes to end until the deadline (monotonic); return those that have not."""
    left = dict(watched)
    while left and (rest := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(rest * 1000):
            poll.unregister(descriptor)
            left.pop(descriptor, None)
    return left


def ended(pid: int, *, within_s: float) -> bool:
    """Wait for a process to end; return whether it did in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


def is_free(port: int) -> bool:
    """Return whether nobody has a TCP port of this machine. Raises `PermissionError` where we may not have it."""
    try:
        opened(EVERY, port).close()
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            return False
        raise
    return True


def held(port: int) -> socket.socket | None:
    """Return a socket that keeps a TCP port of loopback for a process of ours to listen on; `None` if it is taken.

    Nobody else can hold it as well, and a socket with SO_REUSEADDR can be bound beside one that does not listen.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError as problem:
        sock.close()
        if problem.errno == errno.EADDRINUSE:
            return None
        raise
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def listener(port: int) -> str:
    """Return who listens on a TCP port as "process N (command)"; empty where /proc does not tell."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        except OSError:
            continue
        inodes |= {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in wanted for link in (process / "fd").iterdir()):
                return f"process {process.name} ({command_of(int(process.name))[:120]})"
        except OSError:  # another user's, or gone meanwhile
            continue
    return ""
