"""Hints in a job's log: the path that its sandbox denied and the setting that allows it, or a read-only array."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from convoy.worker.sandbox import VARIABLE, Sandbox

_CLOSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT})
_CUT_OFF: Final = frozenset({errno.ENETUNREACH, errno.EACCES, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
READ_ONLY: Final = "the arrays of task.model are read-only: task.model.numpy() returns copies that you may change"
NO_SIGNALS: Final = (
    "a simulation runs scripts in threads, where Python has no signal handlers: set one only if "
    "threading.current_thread() is threading.main_thread(), or name a function in job.yaml: `trainer: train.py:train`"
)
_OWNER: Final = "the owner of this node can allow it in local/node.yaml"


def of(error: BaseException, env: Mapping[str, str] = os.environ) -> str:
    """Return a line for each access that was denied, by the sandbox or a read-only array, in an error or its causes."""
    sandbox = Sandbox.from_json(env[VARIABLE]) if VARIABLE in env else None
    hints = (_hint(problem, sandbox) if isinstance(problem, OSError) else _said(problem) for problem in _causes(error))
    found = dict.fromkeys(filter(None, hints))
    return "".join(f"convoy: {hint}\n" for hint in found)


def _causes(error: BaseException) -> Iterator[OSError | ValueError | TypeError]:
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OSError | ValueError | TypeError):
            yield one
        waiting += [one.__cause__, one.__context__, *one.args, getattr(one, "reason", None)]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _said(problem: ValueError | TypeError) -> str:
    """Return the hint for what numpy says, those who write into its buffers or into a model, and `signal`."""
    text = str(problem)
    if text.startswith("signal only works in main thread"):
        return NO_SIGNALS
    return READ_ONLY if text.endswith("read-only") or text.startswith("'Model' object does not support item") else ""


def _hint(problem: OSError, sandbox: Sandbox | None) -> str:
    if sandbox is None:
        return ""
    if isinstance(problem, socket.gaierror) or (problem.filename is None and problem.errno in _CUT_OFF):
        return "" if sandbox.network else f"jobs have no network here: {_OWNER}: `isolation: {{network: true}}`"
    if problem.errno not in _CLOSED or not isinstance(problem.filename, str | bytes):
        return ""
    path = os.path.normpath(Path.cwd() / os.fsdecode(problem.filename))
    if sandbox.allows(path, write=True):
        return ""
    if problem.errno == errno.EROFS or sandbox.allows(path):
        return f"jobs may not write to {path}: {_OWNER}: `isolation: {{write: [{path}]}}`"
    return f"jobs do not see {path}: {_OWNER}: `isolation: {{read: [{path}]}}`, or `data: {{name: {path}}}`"
