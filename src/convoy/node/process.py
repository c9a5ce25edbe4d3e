"""What server and site share as processes: signals, readiness, logs, a fresh start."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import logging
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import Coroutine, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from convoy.errors import BadInput, ConvoyError
from convoy.spec.plain import many_lines, one_line

KEEP: Final = 200  # warnings and errors that a node shows to its admins
SWITCH_S: Final = 0.0005  # how soon a thread that syncs or hashes gives the interpreter back; 5 ms is a whole round
M_ARENA_MAX: Final = -8  # glibc's mallopt(3): two heaps instead of one a thread, which would keep what they freed
RESTART: Final = 75  # exit status by which a node asks itself to start anew (EX_TEMPFAIL)


KNOWN: Final = ("timestamp", "level", "event", "reason", "exc_info", "exception")  # the others are what it is about


@dataclass(slots=True)
class Notes:
    """The newest warnings and errors of this process, for `show_errors`."""

    newest: deque[str] = field(default_factory=lambda: deque(maxlen=KEEP))

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Remember what is a warning or worse (a structlog processor)."""
        if method in ("warning", "error", "critical", "exception"):
            said = [str(event[key]) for key in ("event", "reason") if event.get(key)]
            more = ", ".join(f"{key}={value}" for key, value in event.items() if key not in KNOWN)
            self.newest.append(
                f"{event.get('timestamp', '')} {method}: {': '.join(said)}{f' ({more})' if more else ''}"
            )
        return event


def shown(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what came from elsewhere, so that no value of a log line forges another (a structlog processor)."""
    for key, value in event.items():
        if key == "exception":
            event[key] = "\n".join(f"  {part}" for part in many_lines(str(value)).split("\n"))
        elif isinstance(value, str):
            event[key] = one_line(value)
    return event


def set_up(form: str, notes: Notes) -> None:
    """Write structured lines to standard error, as text for people or as JSON for machines; make threads share well.

    A process may open as many files as the system lets it: 1,024, the usual number, is less than those who may wait at
    a server's two doors.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setswitchinterval(SWITCH_S)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 2)
    last: Any = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            shown,
            notes,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@dataclass(slots=True)
class Ending:
    """Set when the node shall drain and leave; `restart` when it shall come back."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    restart: bool = False

    def ask(self, *, restart: bool = False) -> None:
        """Ask the node to leave."""
        self.restart = restart
        self.event.set()

    @property
    def status(self) -> int:
        """The exit status to leave with."""
        return RESTART if self.restart else 0


@contextmanager
def signals(ending: Ending) -> Iterator[None]:
    """Let SIGTERM and SIGINT ask the node to leave."""
    loop = asyncio.get_running_loop()
    caught = (signal.SIGTERM, signal.SIGINT)
    for sign in caught:
        loop.add_signal_handler(sign, ending.ask)
    try:
        yield
    finally:
        for sign in caught:
            loop.remove_signal_handler(sign)


def say_ready(descriptor: int | None) -> None:
    """Tell whoever started us, over the pipe that it gave us, that we are ready."""
    if descriptor is not None:
        with suppress(BrokenPipeError):  # whoever started us does not wait any more
            os.write(descriptor, b"ready\n")
        os.close(descriptor)


@contextmanager
def held(folder: Path, pid_file: Path) -> Iterator[None]:
    """Hold a node's working folder for this process and say its number in a file, unless the kit cannot be written.

    Raises `BadInput` if another process has the folder; the system lets go of it when this one ends.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        other = pid_file.read_text().strip() if pid_file.exists() else ""
        why = f"{f'process {other}' if other else 'it'} holds {folder / 'lock'}"
        raise BadInput(f"another process runs in {folder}", why=why, fix="stop it first") from problem
    with suppress(OSError):
        pid_file.parent.mkdir(exist_ok=True)
        pid_file.write_text(f"{os.getpid()}\n")
    try:
        yield
        with suppress(OSError):
            pid_file.unlink()  # so that of one that died it stays
    finally:
        os.close(descriptor)


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a node to its end and return its exit status, or start this very process anew if it asked for that.

    Raises the `ConvoyError` that ended it as it is, without the groups of the tasks that it came through.
    """
    try:
        status = asyncio.run(main)
    except BaseExceptionGroup as group:
        errors, others = group.split(ConvoyError)
        if errors is None or others is not None:
            raise
        raise _first(errors) from group
    if status == RESTART:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves, as we were started
    return status


def _first(group: BaseExceptionGroup[ConvoyError]) -> ConvoyError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
