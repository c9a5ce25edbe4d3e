"""What a training script uses: tasks in, replies out."""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from blake3 import blake3

from convoy.control.costs import NOTHING
from convoy.control.records import Question
from convoy.errors import BadInput
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.worker import code, usage
from convoy.worker import private as _private
from convoy.worker.replies import Reply, checked
from convoy.worker.setup import Data, Files, Setup

if TYPE_CHECKING:
    from convoy.control.points import Point
    from convoy.model.arrays import Model
    from convoy.spec.tables import TableRules
    from convoy.wire.frames import Blocking
    from convoy.worker.batch import Batch

F = TypeVar("F", bound=Callable[..., Any])


class Session(Protocol):
    """What carries a task: a trainer's connection to its node, or memory in a test."""

    @property
    def begin(self) -> Setup:
        """What the trainer received before its first task."""
        ...

    def load(self, digest: str) -> Model:
        """Return the arrays of a blob of this job; for an empty digest, no arrays."""
        ...

    def initial(self) -> Mapping[str, Any]:
        """Return the job's initial model, made here from the job's files."""
        ...

    def answer(self, task: Task, reply: Reply) -> None:
        """Send the reply to a task."""
        ...


class Task:
    """One request of the workflow to this site."""

    def __init__(
        self,
        session: Session,
        question: Question,
        state: str = "",
        most_state: float = math.inf,
        tables: Mapping[str, TableRules] | None = None,
    ) -> None:
        """Take the question, the digest of the state that this site kept with its last answer that counts, a limit.

        `tables`: the rules of the site's policy by the name of the table; the defaults hold for others.
        """
        self.tables = tables or {}
        self.most_state = most_state  # bytes that an answer may keep here
        self._session = session
        self._state_digest = state
        self._sent: Model | None = None
        self.asked = question  # the whole question, with the arrays that an answer must have
        self.received = False  # by a script with NVIDIA FLARE's verbs
        self.looks = 0  # of such a script at it since it received it, or since it came
        self.used: set[str] = set()  # the helpers that the trainer has made of this task, such as "Proximal"
        self.question: str = question.id
        self.kind: str = question.kind  # "train", "evaluate", or a kind that the workflow defines
        self.round: int = question.round
        self.rounds: int = question.rounds  # 0: the workflow does not say
        sent = {} if question.settings == "{}" else json.loads(question.settings)
        self.settings: dict[str, Any] = sent  # what the workflow sends with the model

    def __repr__(self) -> str:
        return f"<Task {self.kind} round {self.round} of {self.job} at {self.site}>"

    @property
    def job(self) -> str:
        """The job's id."""
        return self._session.begin.job

    @property
    def name(self) -> str:
        """The job's name."""
        return self._session.begin.name

    @property
    def site(self) -> str:
        """The site's name."""
        return self._session.begin.site

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The `config` of job.yaml; each task has a copy, so that no change to it outlives the task."""
        return copy.deepcopy(self._session.begin.config)

    @property
    def data(self) -> Data:
        """The site's named data: name -> path."""
        return self._session.begin.data

    @property
    def model(self) -> Model:
        """The model to work on: read-only arrays by name; `.numpy()` and `.torch()` give copies to write to."""
        return self._whole if self.asked.partial else self.sent

    @cached_property
    def _whole(self) -> Model:
        return _private.joined(self.sent, self.kept_here)

    @property
    def private(self) -> frozenset[str]:
        """The names of the model's tensors that stay at this site, because `keys` of the job leaves them out."""
        return frozenset(self.kept_here)

    @cached_property
    def state(self) -> Model:
        """The arrays kept with this site's last answer that a round counted; empty at first. They are never sent."""
        return _private.own(self._kept) if self.asked.partial else self._kept

    @property
    def sent(self) -> Model:
        """The arrays that came with the question: the model, or the part of it that is federated."""
        if self._sent is None:  # `cached_property` takes a lock, at each task that uses its model
            self._sent = self._session.load(self.asked.model)
        return self._sent

    @cached_property
    def kept_here(self) -> _private.Placed:
        """The tensors that stay at this site, each with its place in the model."""
        return _private.placed(self._kept, self.sent, self._session.initial) if self.asked.partial else {}

    @cached_property
    def _kept(self) -> Model:
        return self._session.load(self._state_digest)

    @property
    def seed(self) -> int:
        """A number below 2^32 that follows from the job's seed, the question and the site, and from nothing else."""
        key = f"{self._session.begin.seed}/{self.question}/{self.site}".encode()
        return int.from_bytes(blake3(key).digest(length=4), "little")

    def reply(
        self,
        arrays: Any = None,
        *,
        weight: float = 1.0,
        metrics: Mapping[str, float] | None = None,
        value: Any = None,
        state: Any = None,
    ) -> None:
        """Answer the task, once. `arrays`: a state dict, a mapping or a list of arrays, or none.

        `value`: plain JSON; `state`: arrays that this site keeps for its next task, see `Reply`. Raises `Refused` for
        arrays that are not what the question asks for in name, shape and dtype, or not finite, and `BadInput` for what
        is not an array, a weight or metric that is not a number, arrays for an "evaluate" task, or a second reply.
        """
        self._session.answer(self, Reply(arrays, weight, metrics or {}, value, state))


class NodeSession:
    """A trainer's connection to its node; without a link there are no tasks, only names for a script's import."""

    def __init__(self, begin: Setup, files: Files | None = None, link: Blocking | None = None) -> None:
        """Take the trainer's first message, the job's folders and the socket."""
        self.begin = begin
        self.served: dict[str, Callable[..., Any]] = {}  # functions by kind, from the decorators
        self.taken = 0  # tasks
        self.over = False
        self.open: Task | None = None  # not answered yet
        self._files = files
        self._link = link
        self._ready = False
        self._used = NOTHING  # by this process when it took the task
        self.others = NOTHING  # what processes used that work for it and go on
        self.batch: Batch | None = None  # of live metrics; None: they are not wanted
        self.not_finite: set[str] = set()  # live metrics of which the log has said that they were not finite
        self._sending = threading.Lock()  # a script may reply in another thread than the one that asks for tasks

    def ready(self) -> None:
        """Tell the node, once, that this trainer accepts tasks."""
        if not self._ready:
            self._ready = True
            self._send(pb.WorkerUp(ready=pb.Ready()))

    @property
    def has_torch(self) -> bool:
        """Whether the job's code uses torch: in this process nothing else imports it."""
        return "torch" in sys.modules

    def next(self) -> Task | None:
        """Return the next task, or None when there are no more."""
        self.pass_over()
        if self._link is None or self.over:
            return None
        self.ready()
        self.flush()
        down = self._link.receive(pb.WorkerDown)
        if down is None or down.WhichOneof("it") != "task":
            self.over = True
            return None
        self.taken += 1
        self._used, self.others = usage.usage(), NOTHING
        self.open = Task(
            self,
            values.question(down.task.question, self.begin.job),
            down.task.state,
            down.task.state_bytes,
            _tables(down.task.tables_json),
        )
        return self.open

    def pass_over(self) -> None:
        """Fail the open task, if there is one: the script wants the next."""
        if self.open is not None:
            fix = "check is_evaluate(), or `task.kind`" if self.open.kind == "evaluate" else "answer each task once"
            self.fail(f"the script went on to the next task without answering this {self.open.kind!r} task · {fix}")

    def load(self, digest: str) -> Model:
        """Return the arrays of a blob of this job, mapped; for an empty digest, no arrays."""
        from convoy.model.arrays import NO_ARRAYS
        from convoy.store import arrays

        return arrays.load(self._files.blobs, digest) if digest and self._files is not None else NO_ARRAYS

    def initial(self) -> Mapping[str, Any]:
        """Return the job's initial model, made here from the job's files."""
        from convoy.model import frameworks

        if self.begin.code is None:
            raise BadInput("this session has no files of a job")
        before, Here.session = Here.session, NodeSession(self.begin)  # a script that is imported finds no tasks here
        try:
            return frameworks.to_arrays(code.initial(self.begin.code, self.begin.model, self.begin.config))
        finally:
            Here.session = before

    def answer(self, task: Task, reply: Reply) -> None:
        """Give the node the arrays as a blob, and send the answer."""
        if task is not self.open:
            raise BadInput("this task has been answered already", fix="reply once to each task")
        said = checked(reply, task, log)
        message = pb.WorkerUp(answer=pb.Answer(question=task.question, weight=said.weight, metrics=said.metrics))
        message.answer.value = said.value
        message.answer.cost.CopyFrom(self.cost())
        if said.arrays is not None:
            message.answer.digest, _ = self._hand_over(said.arrays, task.asked.model, message)
        if said.state is not None:
            message.answer.state, message.answer.state_bytes = self._hand_over(said.state, "", message)
        self.open = None
        self.flush()
        self._send(message)

    def cost(self) -> pb.Cost:
        """Return what the task took so far, in this process and in others that work for it."""
        return values.cost_to(usage.since(self._used) + self.others)

    def measured(self, point: Point) -> None:
        """Report a point of live metrics."""
        if self.batch is not None:
            self.batch.add(point)

    def flush(self) -> None:
        """Send the points that are gathered, before whatever is sent next."""
        if self.batch is not None:
            self.batch.flush()

    def _hand_over(self, arrays: Mapping[str, Any], lent: str, message: pb.WorkerUp) -> tuple[str, int]:
        """Give the node arrays as a blob; return its digest and its bytes. The node already has arrays that it sent."""
        from convoy.model.arrays import Model
        from convoy.store.arrays import hand_over

        if isinstance(arrays, Model) and arrays.digest and arrays.digest == lent:
            return lent, 0
        assert self._files is not None  # noqa: S101 - there are tasks, so there are folders
        digest, whole = hand_over(self._files.out, arrays)
        if whole:
            message.wholes[digest] = whole
        return digest, sum(array.nbytes for array in arrays.values()) or 1

    def fail(self, error: str, traceback: str = "") -> None:
        """Tell the node that the open task has failed here."""
        if self.open is not None:
            failed = pb.TaskFailed(job=self.begin.job, question=self.open.question, error=error, traceback=traceback)
            self.open = None
            self.flush()
            self._send(pb.WorkerUp(failed=failed))

    def give_up(self, error: str, traceback: str) -> None:
        """Tell the node that this trainer cannot work at all."""
        self._send(pb.WorkerUp(failure=pb.Failure(error=error, traceback=traceback)))

    def send_points(self, points: pb.Points) -> None:
        """Send points of live metrics."""
        self._send(pb.WorkerUp(points=points))

    def _send(self, message: pb.WorkerUp) -> None:
        if self._link is None:
            return
        try:
            with self._sending:
                self._link.send(message)
        except OSError:
            raise SystemExit(0) from None  # the node is gone, so the trainer can end


def _tables(text: str) -> dict[str, TableRules]:
    """Return the rules for tables, as the node of Convoy's own trainer gives them."""
    if not text:
        return {}
    from convoy.spec.tables import TableRules  # no other trainer needs them

    return {name: TableRules(**rules) for name, rules in json.loads(text).items()}


class Here:
    """The session that the functions of a script use, in any thread."""

    session: ClassVar[NodeSession | None] = None  # one worker for each process, so scripts pass no argument


def session() -> NodeSession:
    """Return the session of the process that this script runs in. Raises `BadInput` where there is none."""
    found = Here.session
    if found is None and "CONVOY_WORKER_FD" in os.environ:
        raise BadInput(
            "this process was started by a trainer or a workflow",
            why="only the process that started it is connected to its node",
            fix="give results back to that process, and report them there",
        )
    if found is None:
        raise BadInput(
            "this script is not run by a Convoy node",
            why="tasks come from a node",
            fix="put it into a job folder and run `convoy job submit FOLDER`",
        )
    return found


def tasks() -> Iterator[Task]:
    """Yield this site's tasks until the job ends. Each must be answered with `reply` before the next one."""
    here = session()
    while (task := here.next()) is not None:
        yield task


def train(function: F) -> F:
    """Use a function of one task for the "train" tasks: it returns a `Reply`, or only arrays."""
    return _served("train", function)


def evaluate(function: F) -> F:
    """Use a function of one task for the "evaluate" tasks: it returns a `Reply`, or only metrics."""
    return _served("evaluate", function)


def _served(kind: str, function: F) -> F:
    here = Here.session
    if here is not None:  # anywhere else, in a test of the script say, it stays the plain function that it is
        here.served[kind] = function
    return function


def config() -> Mapping[str, Any]:
    """Return a copy of the `config` of job.yaml."""
    return copy.deepcopy(session().begin.config)


def data() -> Data:
    """Return the site's named data: name -> path."""
    return session().begin.data


def log(text: str) -> None:
    """Write a line into the job's log."""
    print(text, flush=True)  # noqa: T201 - standard output is the job's log
