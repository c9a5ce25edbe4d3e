"""A job's supervisor on a node: any error in the handling of one job ends that job there, and nothing else.

A job's bytes do not always raise an error of Convoy: numpy, protobuf, JSON, SQL and Unicode have their own, and Convoy
may have bugs. Everything that a node does for one job therefore runs in a supervisor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from convoy.worker import code

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Ends jobs, one at a time; `end` gets the job, the error as one line and its traceback."""

    group: asyncio.TaskGroup
    end: Callable[[str, str, str], None]

    def start(self, job: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T | None]:
        """Run a coroutine for a job in a task that never raises: it returns None if the job fails."""
        task = self.group.create_task(self._run(job, work))
        task.add_done_callback(lambda _: work.close())  # for a task that is cancelled before it begins
        return task

    async def _run(self, job: str, work: Coroutine[Any, Any, T]) -> T | None:
        with self.over(job):
            return await work
        return None

    @contextmanager
    def over(self, job: str, *, own: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Run a block for a job; an error that leaves the block ends the job and is not raised further.

        Errors of the kinds `own` are raised: the caller handles them.
        """
        try:
            yield
        except own:
            raise
        except Exception as problem:  # noqa: BLE001 - the supervisor: one job must not end its node
            self.failed(job, problem)

    def failed(self, job: str, problem: Exception) -> None:
        """End a job because of an error, with the traceback in the node's log."""
        structlog.get_logger().error("a job failed because of an error in this node", job=job, exc_info=problem)
        first = _first(problem)
        self.end(job, code.line(first), code.traceback(first))


def _first(problem: Exception) -> Exception:
    """Return an error taken out of the exception groups of its tasks."""
    return _first(problem.exceptions[0]) if isinstance(problem, ExceptionGroup) else problem
