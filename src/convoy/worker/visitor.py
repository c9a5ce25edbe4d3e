"""The trainer of one job for many sites: their tasks are done one after the other in one process.

A site's trainer is the same as in a process of its own: its modules, its loop of tasks and what it keeps in them belong
to it alone. Of many sites those that worked longest ago are let go, as if their process had been killed and started
again: what a trainer gives depends on its task alone.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from convoy.control.points import Point
from convoy.control.records import Question
from convoy.errors import BadInput
from convoy.model.arrays import Model
from convoy.worker import code, hints, tasks, trainer
from convoy.worker.namespaces import Held, Namespace, Switch
from convoy.worker.replies import Checked, Reply, checked
from convoy.worker.setup import Data, Setup
from convoy.worker.site_folders import SiteFolders
from convoy.worker.tasks import NodeSession, Task

MOST: Final = 64  # sites whose trainers stay in memory

Choose = Callable[[str], Callable[..., Any] | None]
Measured = Callable[[str, Point], None]  # hears of the live metrics of a site


class SimulatedData(Data):
    """A simulated site's named data."""

    FIX = "give --data {name}=PATH, or write `data: {{{name}: path}}` into simulate.yaml"


@dataclass(frozen=True, slots=True)
class Work:
    """What a job brings for its trainers: the same for all sites."""

    job: str
    name: str
    folder: Path
    trainer: str
    config: Mapping[str, Any]
    seed: str
    model: str

    def begin(self, site: str, data: Mapping[str, str]) -> Setup:
        """Return what the trainer of a site is told."""
        return Setup(self.job, self.name, site, self.config, SimulatedData(data), self.seed, self.folder, self.model)


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no reply."""

    error: str
    traceback: str


class _LetGo(BaseException):
    """Ends a loop of tasks in the middle, as a kill would."""


class SiteSession(NodeSession):
    """One site's session: replies stay here, tasks are put in."""

    def __init__(self, begin: Setup, load: Callable[[str], Model], hear: Measured) -> None:
        """Take what the site's trainer is told, how arrays are loaded, and what hears of live metrics."""
        super().__init__(begin)
        self._hear = hear
        self._round = 0
        self.loops = False  # a script takes its tasks itself, in a thread of its own
        self.said: Checked | Failed | None = None
        self._load = load
        self._given: SimpleQueue[Task | type[_LetGo] | None] = SimpleQueue()
        self._waits: SimpleQueue[bool] = SimpleQueue()  # True: it waits for a task; False: it has ended

    def ready(self) -> None:
        """Do nothing: whoever gives tasks waits until one is asked for."""

    def load(self, digest: str) -> Model:
        """Return the arrays of a digest."""
        return self._load(digest)

    def next(self) -> Task | None:
        """Wait for the next task; None when there are no more. Raises `BadInput` for a function, which is given one."""
        self.pass_over()
        if self.over:
            return None
        if not self.loops:
            raise BadInput(
                "a function for tasks asked for another task", fix="answer the one it is called with, and return"
            )
        self._waits.put(True)
        given = self._given.get()
        if given is _LetGo:
            raise _LetGo
        if not isinstance(given, Task):
            self.over = True
            return None
        return self.take(given)

    @property
    def has_torch(self) -> bool:
        """Whether the job's code uses torch: others may have imported it into this process."""
        return super().has_torch and (self.begin.code is None or code.uses_torch(self.begin.code))

    def take(self, task: Task) -> Task:
        """Let a task be the open one."""
        self.taken += 1
        self.said, self.open, self._round = None, task, task.round
        return task

    def measured(self, point: Point) -> None:
        """Pass on a point of live metrics, in the round of the task that is open, or was last."""
        self._hear(self.begin.site, replace(point, round=self._round, at=time.time()))

    def answer(self, task: Task, reply: Reply) -> None:
        """Keep the reply."""
        if task is not self.open:
            raise BadInput("this task has been answered already", fix="reply once to each task")
        self.said, self.open = checked(reply, task, tasks.log), None

    def fail(self, error: str, traceback: str = "") -> None:
        """Keep why there is no reply."""
        if self.open is not None:
            self.said, self.open = Failed(error, traceback), None

    def reply(self) -> Checked | Failed:
        """Return what came of the last task, and keep it no longer: it holds arrays."""
        said, self.said = self.said, None
        return said or Failed("the trainer gave no answer", "")

    # ---- a loop of tasks, in a thread of its own ---------------------------------------------------------------------
    def give(self, task: Task | type[_LetGo] | None) -> bool:
        """Give the loop a task, or its end; return whether it waits for another one."""
        self._given.put(task)
        return self._waits.get()

    def begins(self) -> bool:
        """Wait until the loop asks for its first task; return False if it has ended before."""
        return self._waits.get()

    def ends(self) -> None:
        """Say that the loop has ended."""
        self.over = True
        self._waits.put(False)


@dataclass(slots=True)
class _Trainer:
    """A site's trainer in memory: functions, or a loop that waits in a thread."""

    session: SiteSession
    namespace: Namespace
    choose: Choose | None = None  # of functions
    thread: threading.Thread | None = None  # of a loop


@dataclass(frozen=True, slots=True)
class _Shared:
    """Functions that all sites may use for as long as the modules hold what they held when they were loaded."""

    namespace: Namespace
    choose: Choose
    held: Held
    names: frozenset[str]  # of the modules


class Visitor:
    """Does the tasks of many sites."""

    def __init__(self, work: Work, load: Callable[[str], Model], home: Path, hear: Measured) -> None:
        """Take the job's code; `load` gives the arrays of a digest; `home`: where each site has a folder of its own.

        `hear` hears of the live metrics of each site.
        """
        self._work, self._load, self._hear = work, load, hear
        self._places = SiteFolders(work.folder, home)
        self._file = code.split(work.trainer)[0]
        self._switch = Switch(work.folder)
        self._trainers: OrderedDict[str, _Trainer] = OrderedDict()
        self._shared: _Shared | None = None
        self._late: dict[str, None] = {}  # names of modules that a task has imported, in their order

    @contextmanager
    def working(self) -> Iterator[None]:
        """Let this process be the sites': each visit is in such a block, in which nobody else's code runs.

        At its end the current folder, `sys.argv` and the session are what they were: in a process that also runs the
        workflow, those of the workflow.
        """
        before = tasks.Here.session
        try:
            with self._places.away(), code.arguments(self._file):
                yield
        finally:
            self._switch.to(None)  # what others import then is not a site's
            tasks.Here.session = before

    def visit(
        self, site: str, data: Mapping[str, str], question: Question, state: str, most_state: float
    ) -> Checked | Failed:
        """Do one task of a site, in its folder; return its reply, or why there is none."""
        self._places.enter(site)
        sys.argv = [self._file]  # a new one for each site
        try:
            known = self._trainer(site, data)
            session = known.session
            if known.choose is None:
                return self._looped(site, session, Task(session, question, state, most_state))
            task = session.take(Task(session, question, state, most_state))
            trainer.perform(session, known.choose, task, self._work.trainer)
            self._check_shared(site, known)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the supervisor of foreign code: the site's news
            sys.stderr.write(code.logged(error) + hints.of(error) if isinstance(error, Exception) else "")
            self._trainers.pop(site, None)
            return Failed(_line(error), code.traceback(error))
        return session.reply()

    def close(self, logged: Callable[[str], AbstractContextManager[object]]) -> None:
        """Let every loop come to its end, with what follows it, as `working`.

        `logged` puts what is printed into a site's log.
        """
        while self._trainers:
            site = next(iter(self._trainers))
            known = self._trainers.pop(site)
            if known.thread is not None:
                self._enter(known)
                with logged(site):
                    self._places.enter(site)
                    known.session.give(None)
                    known.thread.join()

    def _trainer(self, site: str, data: Mapping[str, str]) -> _Trainer:
        """Return the trainer of a site, with the session that all its tasks have, and let its modules be found."""
        known = self._trainers.get(site)
        if known is not None:
            self._trainers.move_to_end(site)
        else:
            session = SiteSession(self._work.begin(site, data), self._load, self._hear)
            if self._shared is not None:
                known = _Trainer(session, self._shared.namespace, self._shared.choose)
            else:
                known = self._begun(session)
                if self._shared is None:
                    self._keep(site, known)
        self._enter(known)
        return known

    def _enter(self, known: _Trainer) -> None:
        self._switch.to(known.namespace)
        tasks.Here.session = known.session

    def _begun(self, session: SiteSession) -> _Trainer:
        """Load the job's code for a site. Raises what it raises."""
        made = _Trainer(session, Namespace())
        self._enter(made)
        file, name = code.split(self._work.trainer)
        if not self._work.trainer:
            from convoy.worker import (
                built_in,
            )  # it takes as long to load as numpy, and jobs with a trainer do not need it

            made.choose = built_in.choose
        elif name:
            module = code.run(self._work.folder, file)
            named = code.function(module, name)
            names = vars(module)
            made.choose = lambda kind: trainer.choose(session, kind, names, named)
        else:
            raised: list[BaseException] = []
            made.thread = threading.Thread(target=self._run, args=(session, file, raised), daemon=True)
            made.thread.start()
            if not session.begins():
                made.thread.join()
                made.thread = None
                if raised:
                    raise raised[0]
                if not session.served:
                    raise trainer.ended(session, file)
                made.choose = session.served.get
        if made.choose is not None:
            for late in self._late:  # sites can share what is there before their tasks
                importlib.import_module(late)
        self._switch.gathered()
        if made.choose is not None and (held := made.namespace.held()) is not None:
            self._shared = _Shared(made.namespace, made.choose, held, frozenset(made.namespace.modules))
        return made

    def _run(self, session: SiteSession, file: str, raised: list[BaseException]) -> None:
        session.loops = True
        try:
            trainer.script(session, self._work.folder, file)
        except _LetGo:
            pass
        except BaseException as error:  # noqa: BLE001 - it is told where the thread is waited for
            raised.append(error)
            if session.open is not None:
                session.fail(_line(error), code.traceback(error))
        finally:
            session.loops = False
            session.ends()

    def _looped(self, site: str, session: SiteSession, task: Task) -> Checked | Failed:
        if not session.give(task):
            self._trainers.pop(site)
            if session.open is not None:
                session.fail("the script ended in the middle of a task")
        return session.reply()

    def _check_shared(self, site: str, known: _Trainer) -> None:
        """End the sharing of modules that a task has changed or added to: from now on they are that site's own."""
        shared = self._shared
        if shared is None or known.namespace is not shared.namespace:
            return
        self._switch.gather()
        if not shared.held.unchanged():
            self._late |= dict.fromkeys(name for name in known.namespace.modules if name not in shared.names)
            self._shared = None
            self._keep(site, known)

    def _keep(self, site: str, known: _Trainer) -> None:
        """Keep the trainer of a site in memory, and let the one go that has worked longest ago, if there are many."""
        self._trainers[site] = known
        if len(self._trainers) > MOST:
            _, oldest = self._trainers.popitem(last=False)
            if oldest.thread is not None:
                self._enter(oldest)
                oldest.session.give(_LetGo)
                oldest.thread.join()


def _line(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the trainer ended with sys.exit({error.code!r})"
    return code.line(error)
