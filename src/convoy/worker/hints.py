"""Hints in the log of a job that its sandbox stopped: the path, and the setting that allows it."""

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
_OWNER: Final = "the owner of this node can allow it in local/node.yaml"


def of(error: BaseException, env: Mapping[str, str] = os.environ) -> str:
    """Return a line for each access that the sandbox denied, in an error or its causes; empty if there is none."""
    if VARIABLE not in env:
        return ""
    sandbox = Sandbox.from_json(env[VARIABLE])
    found = dict.fromkeys(hint for problem in _causes(error) if (hint := _hint(problem, sandbox)))
    return "".join(f"convoy: {hint}\n" for hint in found)


def _causes(error: BaseException) -> Iterator[OSError]:
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OSError):
            yield one
        waiting += [one.__cause__, one.__context__, *one.args, getattr(one, "reason", None)]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _hint(problem: OSError, sandbox: Sandbox) -> str:
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
