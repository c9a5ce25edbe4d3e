"""A scripted node: it starts a real worker process over a socket pair and speaks its frames."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convoy.control.records import Answer, JobId, Question
from convoy.model.arrays import Model
from convoy.pods.link import named
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.wire.frames import Blocking

JOB = "ab" * 16


class Node:
    """One worker process and the node's end of its socket."""

    def __init__(self, root: Path, module: str, begin: pb.WorkerDown) -> None:
        self.folder, self.out = BlobFolder(root / "blobs"), root / "out"
        for folder in (self.folder.folder, self.out):
            folder.mkdir(exist_ok=True)
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        self.link = Blocking(ours)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "convoy.worker.start", module],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=root / "code",
                pass_fds=[theirs.fileno()],
                env={
                    **os.environ,
                    "CONVOY_WORKER_FD": str(theirs.fileno()),
                    "CONVOY_NODE_PID": str(os.getpid()),
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONWARNINGS": "error",
                },
            )
        self.link.send(begin)

    def hear(self) -> pb.WorkerUp:
        """Return the worker's next message."""
        up = self.link.receive(pb.WorkerUp)
        assert up is not None, f"the worker hung up: {self.end()[1]}"
        for digest in filter(None, named(up)):
            self.folder.take("test", self.out, digest, lambda *_: None, up.wholes.get(digest, b""))
        return up

    def hears_nothing_more(self) -> bool:
        return self.link.receive(pb.WorkerUp) is None

    def end(self) -> tuple[int, str]:
        """Wait for the process; return its exit code and what it printed."""
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, output.decode()

    def save(self, model: dict[str, np.ndarray]) -> str:
        return arrays.save(self.folder, "test", model)

    def load(self, digest: str) -> Model:
        return arrays.load(self.folder, digest)

    # ---- to a trainer
    def task(
        self, digest: str, *, question: str = "1.0", kind: str = "train", round_: int = 1, state: str = "", **asked: Any
    ) -> None:
        """Ask; `asked` are further fields of the question."""
        said = Question(JobId(JOB), question, kind, round_, 3, digest, **asked)
        task = pb.Task(job=JOB, question=values.question_to(said), state=state, state_bytes=1 << 20)
        self.link.send(pb.WorkerDown(task=task))

    def bye(self) -> None:
        self.link.send(pb.WorkerDown(bye=pb.Bye()))

    # ---- to a workflow
    def remembers(self, rounds: list[pb.PastRound], page: int = 2) -> None:
        """Tell a workflow that goes on what was committed, as it asks for it page by page."""
        while rounds:
            up = self.hear()
            assert up.WhichOneof("it") == "history", up
            assert up.history.after < rounds[0].round
            self.link.send(pb.WorkerDown(history=pb.History(rounds=rounds[:page])))
            rounds = rounds[page:]

    def share(
        self, question: str, site: str, digest: str = "", *, weight: float = 1.0, left_out: str = "", **metrics: float
    ) -> None:
        answer = values.answer_to(Answer(question, digest, weight, metrics))
        self.link.send(pb.WorkerDown(answer=pb.SiteAnswer(site=site, answer=answer, left_out=left_out)))

    def ends(self, question: str, error: str = "") -> None:
        self.link.send(pb.WorkerDown(end=pb.AskEnd(question=question, error=error)))

    def committed(self, round_: int) -> None:
        self.link.send(pb.WorkerDown(committed=pb.Committed(job=JOB, round=round_)))

    def sites(self, *names: str) -> None:
        self.link.send(pb.WorkerDown(sites=pb.SitesList(sites=names)))


@contextmanager
def _running(node: Node) -> Iterator[Node]:
    try:
        yield node
    finally:
        node.link.close()
        node.process.kill()
        node.process.communicate()


@pytest.fixture
def job(tmp_path: Path):
    """Write a job's code: `job(train_py="...")` makes train.py."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "code").mkdir()

    def write(**files: str) -> None:
        for name, text in files.items():
            (tmp_path / "code" / name.replace("_py", ".py")).write_text(text)

    return write


@pytest.fixture
def trainer(tmp_path: Path):
    """Run the trainer of a job that `job` has written."""

    def run(trainer: str, *, config: object = None, data: object = None):
        begin = pb.BeginTrainer(
            job=JOB,
            name="demo",
            site="site-1",
            code=str(tmp_path / "code"),
            blobs=str(tmp_path / "blobs"),
            out=str(tmp_path / "out"),
            trainer=trainer,
            config_json=json.dumps(config or {}),
            data_json=json.dumps(data or {}),
        )
        return _running(Node(tmp_path, "convoy.worker.trainer", pb.WorkerDown(trainer=begin)))

    return run


@pytest.fixture
def flow(tmp_path: Path):
    """Run the workflow of a job that `job` has written."""

    def run(
        workflow: str = "fedavg", *, history: object = None, config: object = None, with_: object = None, **said: object
    ):
        begin = pb.BeginFlow(
            job=JOB,
            name="demo",
            code=str(tmp_path / "code"),
            blobs=str(tmp_path / "blobs"),
            out=str(tmp_path / "out"),
            workflow=workflow,
            with_json=json.dumps(with_ or {}),
            config_json=json.dumps(config or {}),
            **{"committed": -1, **said},
        )
        node = Node(tmp_path, "convoy.worker.flow", pb.WorkerDown(flow=begin))
        if begin.committed >= 0:
            known = history or [{"round": n, "metrics": {}, "best": False} for n in range(begin.committed + 1)]
            node.remembers([pb.PastRound(**made) for made in known])
        return _running(node)

    return run
