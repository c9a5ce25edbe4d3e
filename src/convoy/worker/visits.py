"""A simulator's worker process: it does tasks of many sites in the order in which they come, and holds no key."""

from __future__ import annotations

import fcntl
import gc
import json
import math
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from convoy.control.records import Question
from convoy.model import bare
from convoy.model.arrays import NO_ARRAYS, Model
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.store.points import FOLDER, PointsFiles
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.wire.frames import Blocking
from convoy.worker.visitor import Failed, Visitor, Work

PLACES = "sites"  # in the folder that the worker writes into: a folder for each site
PIECE = 1 << 20  # bytes of what was printed that are in memory at once
PRINTED = "CONVOY_PRINTED"  # the variable that names a file there, for what is printed during a visit
LOGS = "logs"  # in the folder that the worker writes into: a file for each site


def main() -> None:
    """Do tasks until the simulator says that there are no more, or hangs up."""
    with socket.socket(fileno=int(os.environ["CONVOY_WORKER_FD"])) as sock:
        link = Blocking(sock)
        down = link.receive(pb.WorkerDown)
        if down is None:
            return
        begin = down.trainer
        config = json.loads(begin.config_json or "{}")
        work = Work(begin.job, begin.name, Path(begin.code), begin.trainer, config, begin.seed, begin.model)
        blobs = BlobFolder(Path(begin.blobs))
        worker = Visits(work, lambda digest: arrays.load(blobs, digest), Path(begin.out))
        gc.freeze()  # what is loaded by now stays, and the garbage collector need not look through it
        with worker.working():
            while (down := link.receive(pb.WorkerDown)) is not None and down.WhichOneof("it") == "visit":
                link.send(worker.visit(down.visit))
            worker.close()


def given_at(out: Path, site: str, question: str) -> Path:
    """Return the folder for what a site gives: two sites may give the same arrays, and each of them is taken away."""
    return out / f"{site}.{question}"


def _caught(out: Path) -> int:
    """Let standard output and errors go into a file; return its descriptor.

    The simulator names the file, and reads it where this process dies during a visit. Otherwise it has no name.
    """
    if name := os.environ.pop(PRINTED, ""):
        file = os.open(out / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    else:
        file, path = tempfile.mkstemp(prefix="printed-", dir=out)  # many workers have this folder, and the same number
        Path(path).unlink()
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    return file


class Visits:
    """Does visits, and gives what they made to the simulator."""

    def __init__(self, work: Work, load: Callable[[str], Model], out: Path) -> None:
        """`load` gives the arrays of a digest; `out` gets large answers, and what each site writes and prints."""
        self._job, self._blob, self._out = work.job, load, out
        self._printed = _caught(out)
        self._visitor = Visitor(work, self._load, out / PLACES, PointsFiles(out / FOLDER).add)
        self.working = self._visitor.working  # the block that visits are done in, and the end
        self._model: Model = NO_ARRAYS  # the last question's: it is that of most
        self._asked: tuple[pb.Question, Question] | None = None  # the last question: it is that of most, too

    def _load(self, digest: str) -> Model:
        if not digest:
            return NO_ARRAYS
        if digest == self._model.digest:
            return self._model
        return self._blob(digest)

    def _question(self, said: pb.Question) -> Question:
        if self._asked is None or self._asked[0] != said:
            self._asked = said, values.question(said, self._job)
        return self._asked[1]

    def visit(self, visit: pb.Visit) -> pb.WorkerUp:
        """Do one visit; what is printed meanwhile, by whatever process, is the site's log."""
        question = self._question(visit.question)
        if question.model != self._model.digest:
            self._model = self._load(question.model)
        with self._logged(visit.site):
            said = self._visitor.visit(visit.site, json.loads(visit.data_json), question, visit.state, math.inf)
        if isinstance(said, Failed):
            failed = pb.TaskFailed(question=question.id, error=said.error, traceback=said.traceback)
            return pb.WorkerUp(failed=failed)
        up = pb.WorkerUp(answer=pb.Answer(question=question.id, weight=said.weight, metrics=said.metrics))
        up.answer.value = said.value
        for name, given in (("digest", said.arrays), ("state", said.state)):
            if given is None:
                continue
            if isinstance(given, Model) and name == "digest" and given.digest == question.model:
                up.answer.digest = given.digest
            elif whole := bare.pack(given):
                up.wholes[name] = whole
            else:
                digest, _ = arrays.hand_over(given_at(self._out, visit.site, question.id), given)
                setattr(up.answer, name, digest)
        return up

    @contextmanager
    def _logged(self, site: str) -> Iterator[None]:
        yield
        sys.stdout.flush()
        sys.stderr.flush()
        if size := os.fstat(self._printed).st_size:
            with (self._out / LOGS / f"{site}.log").open("ab") as log:
                place = 0
                while place < size and (part := os.pread(self._printed, PIECE, place)):
                    place += log.write(part)
            os.ftruncate(self._printed, 0)  # opened for appending, so that the next text begins at 0

    def close(self) -> None:
        """Let every site's loop of tasks come to its end."""
        self._visitor.close(self._logged)


if __name__ == "__main__":
    main()
