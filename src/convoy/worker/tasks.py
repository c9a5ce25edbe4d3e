"""What a training script uses: tasks in, replies out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from blake3 import blake3

from convoy.errors import BadInput
from convoy.wire import convoy_pb2 as pb
from convoy.worker import code

if TYPE_CHECKING:
    from pathlib import Path

    from convoy.model.arrays import Model
    from convoy.store.blobs import BlobFolder
    from convoy.wire.frames import Blocking

F = TypeVar("F", bound=Callable[..., Any])


class Data(dict[str, str]):
    """The site's named data: a path for each name in local/node.yaml."""

    def __missing__(self, name: str) -> NoReturn:
        known = ", ".join(sorted(self)) or "none at all"
        raise BadInput(
            f"this site has no data named {name!r}",
            why=f"it has {known}",
            fix=f"the site's owner adds `data: {{{name}: path}}` to local/node.yaml",
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """What a trainer answers: arrays (or none), the weight of its say, and what it measured."""

    arrays: Any = None
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begin:
    """What a trainer is told once, before its first task."""

    job: str
    name: str
    site: str
    config: Mapping[str, Any]
    data: Data


@dataclass(frozen=True, slots=True)
class Files:
    """Where a worker reads its job's blobs, and where it writes its own, for its node to take."""

    blobs: BlobFolder
    out: Path


class Task:
    """One request of the workflow to this site."""

    def __init__(self, session: Session, task: pb.Task) -> None:
        """Take what the node sent."""
        self._session = session
        self._digest = task.model.digest
        self._model: Model | None = None
        self.question: str = task.question
        self.kind: str = task.kind  # "train", "evaluate", or the workflow's own word
        self.round: int = task.round
        self.rounds: int = task.rounds  # 0: not known
        self.numbers: dict[str, float] = dict(task.numbers)  # what the workflow says beside the model

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

    @property
    def config(self) -> Mapping[str, Any]:
        """The `config` of job.yaml."""
        return self._session.begin.config

    @property
    def data(self) -> Data:
        """The site's named data: name -> path."""
        return self._session.begin.data

    @property
    def model(self) -> Model:
        """The model to work on: read-only arrays by name; `.numpy()` and `.torch()` give copies to write to."""
        if self._model is None:
            self._model = self._session.load(self._digest)
        return self._model

    @property
    def seed(self) -> int:
        """A number below 2^32 that is the same whenever this site gets this task, and differs for every other."""
        key = f"{self.job}/{self.question}/{self.site}".encode()
        return int.from_bytes(blake3(key).digest(length=4), "little")

    def reply(self, arrays: Any = None, *, weight: float = 1.0, metrics: Mapping[str, float] | None = None) -> None:
        """Answer the task, once. `arrays`: a state dict, a mapping or a list of arrays, or none.

        Raises `Refused` for tensors that are not the model's in name, shape and dtype, or not finite, and `BadInput`
        for what is no array, a weight or metric that is no number, or a second reply.
        """
        self._session.answer(self, Reply(arrays, weight, metrics or {}))


class Session:
    """A trainer's half of the talk with its node; without a link it has no tasks, and only lends names to a script."""

    def __init__(self, begin: Begin, files: Files | None = None, link: Blocking | None = None) -> None:
        """Take what the trainer was told, the job's folders and the socket."""
        self.begin = begin
        self.served: dict[str, Callable[..., Any]] = {}  # functions by kind, from the decorators
        self.taken = 0  # tasks
        self.over = False
        self.open: Task | None = None  # not answered yet
        self._files = files
        self._link = link
        self._ready = False
        self._sending = threading.Lock()  # a script may reply in another thread than the one that asks for tasks

    def ready(self) -> None:
        """Tell the node, once, that tasks may come."""
        if not self._ready:
            self._ready = True
            self._send(pb.WorkerUp(ready=pb.Ready()))

    def next(self) -> Task | None:
        """Return the next task, or None when there are no more."""
        if self.open is not None:
            self.fail("the script took the next task without answering this one")
        if self._link is None or self.over:
            return None
        self.ready()
        down = self._link.receive(pb.WorkerDown)
        if down is None or down.WhichOneof("it") != "task":
            self.over = True
            return None
        self.taken += 1
        self.open = Task(self, down.task)
        return self.open

    def load(self, digest: str) -> Model:
        """Return the arrays of a blob of this job, mapped; no digest, no arrays."""
        from convoy.model.arrays import Model
        from convoy.store import arrays

        return arrays.load(self._files.blobs, digest) if digest and self._files is not None else Model({})

    def answer(self, task: Task, reply: Reply) -> None:
        """Hand the arrays over as a blob and tell the node."""
        if task is not self.open:
            raise BadInput("this task has been answered already", fix="reply once to each task")
        weight, metrics = _number("the weight", reply.weight), {}
        if not (math.isfinite(weight) and weight >= 0):
            raise BadInput(
                f"the weight is {weight}", fix="give a number from 0 up, such as how many examples there were"
            )
        if not isinstance(reply.metrics, Mapping):
            raise BadInput(
                f"the metrics are {reply.metrics!r}, a {type(reply.metrics).__name__}",
                why="wanted a mapping of names to numbers",
                fix='write metrics={"loss": 0.5}',
            )
        for name, value in reply.metrics.items():
            metrics[str(name)] = _number(f"metric {name!r}", value)
        metrics = code.finite(metrics, f"this {task.kind!r} task")
        digest, whole = ("", b"") if reply.arrays is None else self._keep(task, reply.arrays)
        if task.kind == "train" and not digest:
            raise BadInput("the reply to a train task has no arrays", fix="pass the trained arrays to reply()")
        self.open = None
        answer = pb.Answer(question=task.question, digest=digest, weight=weight, metrics=metrics)
        self._send(pb.WorkerUp(answer=answer, whole=whole))

    def _keep(self, task: Task, anything: Any) -> tuple[str, bytes]:
        from convoy.model import arrays, frameworks, schema
        from convoy.store.arrays import hand_over

        model = task.model
        if isinstance(anything, arrays.Model) and anything.digest and anything.digest == model.digest:
            return model.digest, b""
        assert self._files is not None  # noqa: S101 - there are tasks, so there are folders
        update = {name: arrays.packed(array) for name, array in frameworks.to_arrays(anything).items()}
        schema.check_shapes(arrays.shapes(update), arrays.shapes(model))
        schema.check_values(update)
        return hand_over(self._files.out, {name: update[name] for name in model})  # the order is the model's

    def fail(self, error: str, traceback: str = "") -> None:
        """Tell the node that the open task has failed here."""
        if self.open is not None:
            failed = pb.TaskFailed(job=self.begin.job, question=self.open.question, error=error, traceback=traceback)
            self.open = None
            self._send(pb.WorkerUp(failed=failed))

    def give_up(self, error: str, traceback: str) -> None:
        """Tell the node that this trainer cannot work at all."""
        self._send(pb.WorkerUp(failure=pb.Failure(error=error, traceback=traceback)))

    def _send(self, message: pb.WorkerUp) -> None:
        if self._link is None:
            return
        try:
            with self._sending:
                self._link.send(message)
        except OSError:
            raise SystemExit(0) from None  # the node is gone, and with it the reason to be here


def _number(what: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as problem:
        raise BadInput(f"{what} is {value!r}, not a number") from problem


class Here:
    """Which session the verbs of a script belong to, in whichever thread they are called."""

    session: ClassVar[Session | None] = None  # a process runs one worker; a script's verbs take no argument for it


def session() -> Session:
    """Return the session of the process that this script runs in. Raises `BadInput` where there is none."""
    found = Here.session
    if found is None:
        raise BadInput(
            "this script is not run by a Convoy node",
            why="tasks come from a node",
            fix="put it into a job folder and type `convoy job submit FOLDER`",
        )
    return found


def tasks() -> Iterator[Task]:
    """Yield this site's tasks until the job is over. Each must get its `reply` before the next comes."""
    here = session()
    while (task := here.next()) is not None:
        yield task


def train(function: F) -> F:
    """Have a function of one task answer the "train" tasks: it returns a `Reply`, or arrays alone."""
    return _served("train", function)


def evaluate(function: F) -> F:
    """Have a function of one task answer the "evaluate" tasks: it returns a `Reply`, or metrics alone."""
    return _served("evaluate", function)


def _served(kind: str, function: F) -> F:
    here = Here.session
    if here is not None:  # anywhere else, in a test of the script say, it stays the plain function that it is
        here.served[kind] = function
    return function


def config() -> Mapping[str, Any]:
    """Return the `config` of job.yaml."""
    return session().begin.config


def data() -> Data:
    """Return the site's named data: name -> path."""
    return session().begin.data


def log(text: str) -> None:
    """Write a line into the job's log."""
    print(text, flush=True)  # noqa: T201 - standard output is the job's log
