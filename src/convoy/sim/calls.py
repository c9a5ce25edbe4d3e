"""An engine for tests: a trainer is a function of a task, called in this process."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from convoy.control.points import Point
from convoy.errors import BadInput
from convoy.model import frameworks
from convoy.model.arrays import Model
from convoy.sim.visits import Visit, Visited
from convoy.worker import code, tasks
from convoy.worker.replies import Reply, checked
from convoy.worker.setup import Setup
from convoy.worker.tasks import NodeSession, Task
from convoy.worker.trainer import as_reply

Trainer = Callable[[Task], Any]


@dataclass(slots=True)
class _Session:
    """One task's session: the reply is kept for whoever gave the task."""

    begin: Setup
    visit: Visit
    first: Callable[[], Any]
    said: list[Reply] = field(default_factory=list)

    def load(self, digest: str) -> Model:
        """Return the arrays of a digest."""
        return self.visit.model if digest == self.visit.question.model else self.visit.state

    def initial(self) -> Mapping[str, Any]:
        """Return the initial model."""
        return frameworks.to_arrays(self.first())

    def answer(self, task: Task, given: Reply) -> None:
        """Take the reply to a task, once."""
        del task
        if self.said:
            raise BadInput("this task has been answered already", fix="reply once to each task")
        self.said.append(given)


class Measuring(NodeSession):
    """What `convoy.metrics` finds in a process without a node: it passes each point on."""

    def __init__(self, begin: Setup, round_: Callable[[], int], hear: Callable[[str, Point], None]) -> None:
        """Take whose points these are, and what their round is."""
        super().__init__(begin)
        self._round, self._hear = round_, hear

    def measured(self, point: Point) -> None:
        """Pass on a point of live metrics."""
        self._hear(self.begin.site, replace(point, round=self._round(), at=time.time()))


class Calls:
    """Calls functions, each visit when its result is wanted."""

    inside: ClassVar = True

    def __init__(
        self,
        trainer: Trainer | Mapping[str, Trainer],
        begins: Mapping[str, Setup],
        say: Callable[[str], None],
        first: Callable[[], Any],
        hear: Callable[[str, Point], None],
    ) -> None:
        """Take a function for every kind of question, or functions by kind; and what each site's trainer is told.

        `say` takes lines of the log; `first` makes the initial model; `hear` takes the live metrics of each site.
        """
        self._trainer, self._begins, self._say = trainer, begins, say
        self._first, self._hear = first, hear

    def working(self) -> AbstractContextManager[None]:
        """Do nothing: a function finds this process as it is."""
        return nullcontext()

    def start(self, visit: Visit) -> Callable[[], Awaitable[Visited]]:
        """Note a visit; it is done when its result is wanted."""
        return partial(self._done, visit)

    async def _done(self, visit: Visit) -> Visited:
        session = _Session(self._begins[visit.site], visit, self._first)
        task = Task(session, visit.question, visit.state.digest)
        before = tasks.Here.session
        tasks.Here.session = Measuring(session.begin, lambda: visit.question.round, self._hear)
        try:
            said = checked(self._called(task, session), task, self._say)
        except Exception as error:  # noqa: BLE001 - the supervisor of foreign code: whatever it raises is the site's news
            return Visited(error=code.line(error), traceback=code.traceback(error))
        finally:
            tasks.Here.session = before
        arrays = None if said.arrays is None else own(said.arrays)
        return Visited(arrays, said.weight, said.metrics, said.value, said.state)

    def _called(self, task: Task, session: _Session) -> Reply:
        named = self._trainer.get(task.kind) if isinstance(self._trainer, Mapping) else self._trainer
        if named is None:
            raise BadInput(f"there is no function for {task.kind!r} tasks")
        result = named(task)
        if inspect.iscoroutine(result):
            with ThreadPoolExecutor(1) as pool:  # a loop of its own, as in a trainer's process
                result = pool.submit(asyncio.run, result).result()
        return session.said[0] if session.said else as_reply(task, result)

    async def close(self) -> None:
        """Do nothing: functions have no end."""

    async def stop(self) -> None:
        """Do nothing."""


def own(arrays: Mapping[str, Any]) -> Model:
    """Return arrays whose bytes are their own: a trainer may go on to write into what it has handed over."""
    if isinstance(arrays, Model):
        return arrays
    copies = {name: array.copy() for name, array in arrays.items()}
    for array in copies.values():
        array.setflags(write=False)  # so that the model needs no views of them
    return Model(copies)
