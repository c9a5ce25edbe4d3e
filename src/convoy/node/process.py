"""What server and site share as processes: signals, readiness, logs, and restarting themselves."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import importlib
import logging
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO, cast

import structlog

from convoy.errors import BadInput, ConvoyError
from convoy.node.rotation import NodeLog
from convoy.node.turns import Turns
from convoy.spec.printable import many_lines, one_line

KEEP: Final = 200  # warnings and errors that a node shows to its admins
SWITCH_S: Final = 0.0005  # how soon a thread that hashes releases the interpreter; the default, 5 ms, is a whole round
M_ARENA_MAX: Final = -8  # glibc's mallopt(3): two heaps instead of one for each thread, which keep freed memory
RESTART: Final = 75  # exit status with which a node requests its own restart (EX_TEMPFAIL)


KNOWN: Final = ("timestamp", "level", "event", "reason", "exc_info", "exception")  # the other keys are the subject


@dataclass(slots=True)
class Notes:
    """The newest warnings and errors of this process, for `show_errors`."""

    newest: deque[str] = field(default_factory=lambda: deque(maxlen=KEEP))
    _hearers: list[Callable[[], object]] = field(default_factory=list)

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Store the entry if it is a warning or worse (a structlog processor)."""
        if method in ("warning", "error", "critical", "exception"):
            said = [str(event[key]) for key in ("event", "reason") if event.get(key)]
            more = ", ".join(f"{key}={value}" for key, value in event.items() if key not in KNOWN)
            self.newest.append(
                f"{event.get('timestamp', '')} {method}: {': '.join(said)}{f' ({more})' if more else ''}"
            )
            for hear in self._hearers:
                hear()
        return event

    @contextmanager
    def heard_by(self, hear: Callable[[], object]) -> Iterator[None]:
        """Call `hear` after each entry while the context lasts, in whatever thread logs it."""
        self._hearers.append(hear)
        try:
            yield
        finally:
            self._hearers.remove(hear)


def shown(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape foreign text, so that no value of a log line can forge another line (a structlog processor)."""
    for key, value in event.items():
        if key == "exception":
            event[key] = "\n".join(f"  {part}" for part in many_lines(str(value)).split("\n"))
        elif isinstance(value, str):
            event[key] = one_line(value)
    return event


def placed(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the round of a question that a line is about (a structlog processor)."""
    number = str(event.get("question", "")).partition(".")[0]
    if number.isdecimal():
        event.setdefault("round", int(number))
    return event


def set_up(form: str, notes: Notes, **about: str) -> None:
    """Write structured lines to standard error, as text for people or as JSON for programs; tune threads and limits.

    `about` is in each line of JSON, whose readers may have the lines of many nodes.

    The limit of open files is raised to the hard one: the usual 1,024 are fewer than the connections that may wait at
    a server's two ports.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setswitchinterval(SWITCH_S)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 2)

    def tagged(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**about, **event} if form == "json" else event

    last: Any = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            tagged,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            placed,
            shown,
            notes,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", NodeLog.of_process())),
    )


@dataclass(slots=True)
class Ending:
    """Set when the node must drain and stop; `restart` if it must then start again."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    restart: bool = False

    def ask(self, *, restart: bool = False) -> None:
        """Request the node's stop."""
        self.restart = restart
        self.event.set()

    @property
    def status(self) -> int:
        """The exit status of the process."""
        return RESTART if self.restart else 0


@contextmanager
def signals(ending: Ending) -> Iterator[None]:
    """Make SIGTERM and SIGINT request the node's stop."""
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
    """Report readiness to the process that started this one, over the pipe that it passed."""
    if descriptor is not None:
        with suppress(BrokenPipeError):  # the starting process does not wait any more
            os.write(descriptor, b"ready\n")
        os.close(descriptor)


async def load(*modules: str) -> None:
    """Import in a thread what the first job needs; whoever imports one of them meanwhile waits for it."""
    for name in modules:
        try:
            await asyncio.to_thread(importlib.import_module, name)
        except Exception as problem:  # noqa: BLE001 - the job that needs it says so again, and fails alone
            structlog.get_logger().error("a module that jobs need cannot be loaded", module=name, exc_info=problem)


@contextmanager
def held(folder: Path, pid_file: Path) -> Iterator[None]:
    """Lock a node's working folder and write the process id to a file, unless the kit cannot be written.

    Raises `BadInput` if another process has the lock; the system releases it when this process ends.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        other = pid_file.read_text().strip() if pid_file.exists() else ""
        why = f"{f'process {other}' if other else 'it'} holds {folder / 'lock'}"
        raise BadInput(f"another process uses {folder}", why=why, fix="stop it first") from problem
    with suppress(OSError):
        pid_file.parent.mkdir(exist_ok=True)
        pid_file.write_text(f"{os.getpid()}\n")
    try:
        yield
        with suppress(OSError):
            pid_file.unlink()  # so that the file of a dead process stays
    finally:
        os.close(descriptor)


def run(main: Coroutine[Any, Any, int], turns: Turns) -> int:
    """Run a node to its end and return its exit status, or restart this process if that was requested.

    `turns` measures its event loop. Raises the `ConvoyError` that ended the node, taken out of the exception groups of
    its tasks.
    """
    try:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
            status = runner.run(main)
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
