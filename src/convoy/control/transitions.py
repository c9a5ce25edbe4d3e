"""The lives of a job, a member and a task as tables; a move that is not listed raises, with the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, TypeVar

from convoy.control.costs import Cost
from convoy.control.records import Answer, Job, Member, Task
from convoy.errors import Bug

JOB: Final[Mapping[str, tuple[str, ...]]] = {
    "submitted": ("submitted", "running", "failed", "aborted"),
    "running": ("running", "ending"),
    "ending": ("ending", "completed", "failed", "aborted"),
    "completed": (),
    "failed": (),
    "aborted": (),
}
MEMBER: Final[Mapping[str, tuple[str, ...]]] = {
    "starting": ("ready", "refused", "away", "ended"),
    "ready": ("away", "ended", "refused"),
    "refused": ("starting", "ended"),
    "away": ("starting", "ready", "ended"),
    "ended": (),
}
TASK: Final[Mapping[str, tuple[str, ...]]] = {
    "open": ("received", "left_out"),
    "received": (
        "uncounted",  # the workflow did not fold it into the round that is committed
        "open",  # its bytes were lost with a disk: asked for again under the same id and digest
        "left_out",  # its site was revoked
    ),
    "uncounted": ("received",),  # its round was undone, and is made again
    "left_out": (),
}
TABLES: Final[Mapping[type, Mapping[str, tuple[str, ...]]]] = {Job: JOB, Member: MEMBER, Task: TASK}
ENDED: Final = frozenset({"completed", "failed", "aborted"})
OPEN: Final = frozenset(JOB) - ENDED

R = TypeVar("R", Job, Member, Task)


def move(record: R, state: str, **changes: object) -> R:
    """Return the record in its new state; raises `Bug` for a move that its table does not list."""
    _check(record, state)
    if isinstance(record, Task):
        return record._replace(state=state, **changes)  # type: ignore[arg-type]
    return replace(record, state=state, **changes)  # type: ignore[arg-type]


def receive(task: Task, answer: Answer, place: int, spent: Cost) -> Task:
    """Return an open task with its answer. Each visit of a site makes this move: `move` takes three times as long."""
    _check(task, "received")
    return Task(task.job, task.question, task.site, "received", answer, place, task.reason, task.traceback, spent)


def _check(record: Job | Member | Task, state: str) -> None:
    if state not in TABLES[type(record)][record.state]:
        raise Bug(
            f"a {type(record).__name__.lower()} cannot go from {record.state!r} to {state!r}",
            why=f"its traceback: {record}",
            fix="report this with the server's log",
        )
