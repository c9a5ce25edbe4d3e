"""A site's tasks in several processes that torchrun starts: each gets every task, and rank 0 replies."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from convoy.control.costs import NOTHING, Cost
from convoy.errors import BadInput, not_installed
from convoy.model.arrays import Model
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.wire.frames import Blocking
from convoy.worker import tasks
from convoy.worker.setup import Setup
from convoy.worker.tasks import Task

TRIES: Final = 3  # times that processes may die in one task
MISSED_S: Final = 1.0  # in which the end of a process is seen after another has failed, perhaps because of it
UNBOUNDED: Final = (1 << 63) - 1  # bytes: what the message can say where there is no limit
HOME: Final = "CONVOY_RANKS"  # in the environment of a rank: the folder of the socket
SOCKET: Final = "ranks"
NUMBER: Final = 4  # bytes in which a rank says its number, little endian
_LONGEST: Final = 100  # characters of the path of a Unix socket: the kernel takes 108 bytes
_HOLDER: Final = "task"


def launch(trainer: str, *, processes: int) -> None:
    """Do the tasks of this site in processes that torchrun starts on this machine; call it in the job's script.

    `trainer`: what the processes run, as in job.yaml: a script or a function of a file beside the calling script, such
    as `train.py` or `train.py:train`. Each process has the environment of torchrun (`RANK`, `WORLD_SIZE`, …), gets
    every task with its model, and replies; the reply of rank 0 is the site's. They stay from task to task. An error in
    one of them fails the task, and a process that dies is started again with all others, at most three times in a
    task. It returns when the job ends. Raises `BadInput` for a number of processes below 1, inside a function of a
    task, where no node runs the script, and where torch is not installed.
    """
    if find_spec("torch") is None:
        raise not_installed(ModuleNotFoundError("No module named 'torch'"), "torch", extra="torch")
    if processes < 1:
        raise BadInput(f"{processes} processes are to do this site's tasks", fix="give 1 or more")
    session = tasks.session()
    if session.open is not None or session.served:
        raise BadInput(
            "launch() is called beside a function of a task",
            fix="call it in a script of its own: `trainer: launch.py` in job.yaml",
        )
    folder = Path(str(sys.modules["__main__"].__file__)).resolve().parent
    with tempfile.TemporaryDirectory(prefix="ranks-") as home:
        crew = _Crew(Path(home), folder, trainer, processes, session.begin, session.send_points)
        try:
            for task in tasks.tasks():
                _perform(crew, task, session)
            crew.finish()
        finally:
            crew.end()


def address(home: Path, folder: int) -> str:
    """Return the address of the socket in a folder, given by its path and by a descriptor for when that is too long."""
    path = str(home / SOCKET)
    return path if len(os.fsencode(path)) < _LONGEST else f"/proc/self/fd/{folder}/{SOCKET}"


def _perform(crew: _Crew, task: Task, session: tasks.NodeSession) -> None:
    """Have the processes do a task and reply to it, or say why they failed."""
    question = replace(task.asked, model=crew.save(task.model))
    message = pb.Task(job=task.job, question=values.question_to(question), state=crew.save(task.state))
    message.state_bytes = int(min(task.most_state, UNBOUNDED))
    for _ in range(TRIES):
        said = crew.ask(message)
        if isinstance(said, pb.TaskFailed):
            crew.end()  # the others may wait for it in the middle of a collective operation
            session.fail(said.error, said.traceback)
        elif said is not None:
            session.others = crew.spent
            task.reply(
                crew.load(said.answer.digest, said) if said.answer.digest else None,
                weight=said.answer.weight,
                metrics=dict(said.answer.metrics),
                value=json.loads(said.answer.value) if said.answer.value else None,
                state=crew.load(said.answer.state, said) if said.answer.state else None,
            )
        else:
            crew.end()
            continue
        break
    else:
        session.fail(f"processes of torchrun died {TRIES} times at this task")
    crew.forget()


@dataclass(slots=True)
class _Crew:
    """The processes of torchrun and the connections to them; without connections there are no processes."""

    home: Path
    code: Path
    trainer: str
    processes: int
    begin: Setup
    measured: Callable[[pb.Points], None]  # called with the live metrics of rank 0
    spent: Cost = NOTHING  # what the processes took for the last task
    _torchrun: subprocess.Popen[bytes] | None = None
    _alive: int = -1  # a pipe that ends with torchrun
    _socks: list[socket.socket] = field(default_factory=list)  # by rank

    def __post_init__(self) -> None:
        self._blobs.folder.mkdir()

    @property
    def _blobs(self) -> BlobFolder:
        return BlobFolder(self.home / "blobs")

    # ---- arrays, as files that all processes map ---------------------------------------------------------------------
    def save(self, model: Model) -> str:
        """Return the digest of a model that the processes can load; of no arrays an empty one."""
        return arrays.save(self._blobs, _HOLDER, model) if len(model) else ""

    def load(self, digest: str, said: pb.WorkerUp) -> Model:
        """Return arrays that rank 0 has given."""
        self._blobs.take(_HOLDER, self._out(0), digest, lambda *_: None, said.wholes.get(digest, b""))
        return arrays.load(self._blobs, digest)

    def forget(self) -> None:
        """Remove the files of a task."""
        self._blobs.release(_HOLDER, *self._blobs.held(_HOLDER))

    def _out(self, rank: int) -> Path:
        return self.home / f"out-{rank}"

    # ---- processes ---------------------------------------------------------------------------------------------------
    def ask(self, task: pb.Task) -> pb.WorkerUp | pb.TaskFailed | None:
        """Give every process a task; return the answer of rank 0, an error, or None if a process has died."""
        if not self._socks and not self._start():
            return None
        answer: pb.WorkerUp | None = None
        self.spent = NOTHING
        waiting = dict(enumerate(self._socks))
        try:
            for sock in self._socks:
                Blocking(sock).send(pb.WorkerDown(task=task))
            while waiting:
                readable, _, _ = select.select(list(waiting.values()), [], [])
                for rank, sock in [(rank, sock) for rank, sock in waiting.items() if sock in readable]:
                    up = Blocking(sock).receive(pb.WorkerUp)
                    if up is None:
                        return None
                    kind = up.WhichOneof("it")
                    if kind in ("failed", "failure"):
                        if _one_ended([it for it in waiting.values() if it is not sock]):
                            return None
                        return _failed(rank, getattr(up, kind), task)
                    if kind == "points" and rank == 0:
                        self.measured(up.points)
                    if kind == "answer":
                        del waiting[rank]
                        self.spent += values.cost(up.answer.cost)
                        answer = up if rank == 0 else answer
        except OSError:  # of a process that has died
            return None
        return answer

    def _start(self) -> bool:
        """Start torchrun and wait until each process has connected; return False if it ends before."""
        folder = os.open(self.home, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as listener:
            (self.home / SOCKET).unlink(missing_ok=True)
            listener.bind(address(self.home, folder))
            os.close(folder)
            listener.listen(self.processes)
            self._run()
            found: dict[int, socket.socket] = {}
            while len(found) < self.processes:
                readable, _, _ = select.select([listener.fileno(), self._alive], [], [])
                if self._alive in readable:
                    self._socks = list(found.values())
                    self.end()
                    return False
                sock, _ = listener.accept()
                found[int.from_bytes(sock.recv(NUMBER, socket.MSG_WAITALL), "little")] = sock
        self._socks = [found[rank] for rank in sorted(found)]
        for rank, sock in enumerate(self._socks):
            self._out(rank).mkdir(exist_ok=True)
            Blocking(sock).send(pb.WorkerDown(trainer=self._told(rank)))
        return True

    def _run(self) -> None:
        self._alive, theirs = os.pipe()
        where = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={self.processes}"]
        # the loopback interface is all that an isolated trainer has; one thread each is torchrun's own default
        own = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        self._torchrun = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *where, "-m", "convoy.torch.rank"],
            env=own | dict(os.environ) | {HOME: str(self.home)},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs],
        )
        os.close(theirs)

    def _told(self, rank: int) -> pb.BeginTrainer:
        begin = self.begin
        return pb.BeginTrainer(
            job=begin.job,
            name=begin.name,
            site=begin.site,
            code=str(self.code),
            blobs=str(self._blobs.folder),
            trainer=self.trainer,
            config_json=json.dumps(dict(begin.config)),
            data_json=json.dumps(begin.data),
            out=str(self._out(rank)),
            seed=begin.seed,
        )

    def finish(self) -> None:
        """Let each process come to its end. Raises `BadInput` if one of them fails there."""
        for sock in self._socks:
            with suppress(OSError):  # of one that has died: torchrun says so in its exit code
                Blocking(sock).send(pb.WorkerDown(bye=pb.Bye()))
        for sock in self._socks[:1]:  # until it closes its end, rank 0 may measure something more
            while (up := Blocking(sock).receive(pb.WorkerUp)) is not None:
                self.measured(up.points)
        if self._torchrun is not None and (status := self._torchrun.wait()):
            raise BadInput(f"torchrun ended with exit code {status} after the last task", fix="its reason is above")

    def end(self) -> None:
        """End all processes."""
        for sock in self._socks:
            sock.close()
        self._socks = []
        if self._torchrun is not None:
            self._torchrun.terminate()  # it ends its processes
            self._torchrun.wait()
            self._torchrun = None
            os.close(self._alive)


def _one_ended(socks: list[socket.socket]) -> bool:
    """Return whether a process has ended. Raises `OSError` where its connection broke."""
    readable, _, _ = select.select(socks, [], [], MISSED_S) if socks else ([], [], [])
    return any(not sock.recv(1, socket.MSG_PEEK) for sock in readable)


def _failed(rank: int, why: pb.TaskFailed | pb.Failure, task: pb.Task) -> pb.TaskFailed:
    return pb.TaskFailed(question=task.question.id, error=f"rank {rank}: {why.error}", traceback=why.traceback)
