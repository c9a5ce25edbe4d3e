"""A job's supervisor on a node: whatever goes wrong with one job ends that job there, and nothing else.

What a job's bytes raise is not always an error of ours: numpy, protobuf, JSON, SQL and Unicode have their own, and so
have our bugs. All that a node does for one job therefore runs in here.
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
        """Do something for a job in a task of its own, which raises nothing: it returns None where the job fails."""
        task = self.group.create_task(self._run(job, work))
        task.add_done_callback(lambda _: work.close())  # of a task that is cancelled before it begins
        return task

    async def _run(self, job: str, work: Coroutine[Any, Any, T]) -> T | None:
        with self.over(job):
            return await work
        return None

    @contextmanager
    def over(self, job: str, *, own: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Do something for a job; an error that leaves the block ends the job, and goes no further.

        Errors of the kinds `own` pass: who asks has an answer to them.
        """
        try:
            yield
        except own:
            raise
        except Exception as problem:  # noqa: BLE001 - the supervisor: one job must not end its node
            self.failed(job, problem)

    def failed(self, job: str, problem: Exception) -> None:
        """End a job because of an error, with the traceback in the node's log."""
        structlog.get_logger().error("a job failed by an error of this node", job=job, exc_info=problem)
        first = _first(problem)
        self.end(job, code.line(first), code.traceback(first))


def _first(problem: Exception) -> Exception:
    """Return an error without the groups of the tasks that it came through."""
    return _first(problem.exceptions[0]) if isinstance(problem, ExceptionGroup) else problem
