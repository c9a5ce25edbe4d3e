"""One process of those that torchrun starts: a trainer whose node is the process that started torchrun."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from convoy.control.points import Point
from convoy.errors import BadInput
from convoy.torch import processes
from convoy.wire import convoy_pb2 as pb
from convoy.wire.frames import Blocking
from convoy.worker import trainer
from convoy.worker.replies import Reply
from convoy.worker.tasks import NodeSession, Task


class Follower(NodeSession):
    """The session of a rank other than 0: its tasks are the same, and the arrays of its replies go nowhere."""

    def answer(self, task: Task, reply: Reply) -> None:  # noqa: ARG002 - rank 0's reply is the site's
        """Say that the task is done."""
        if task is not self.open:
            raise BadInput("this task has been answered already", fix="reply once to each task")
        self.open = None
        self._send(pb.WorkerUp(answer=pb.Answer(question=task.question, cost=self.cost())))

    def measured(self, point: Point) -> None:
        """Do nothing: the live metrics of rank 0 are the site's."""


def main() -> None:
    """Do the tasks of one rank until there are no more."""
    home, rank = Path(os.environ[processes.HOME]), int(os.environ["RANK"])
    folder = os.open(home, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(processes.address(home, folder))
        os.close(folder)
        sock.sendall(rank.to_bytes(processes.NUMBER, "little"))
        trainer.work(Blocking(sock), Follower if rank else NodeSession)


if __name__ == "__main__":
    main()
