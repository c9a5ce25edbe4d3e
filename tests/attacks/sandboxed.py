"""`python -m tests.attacks.sandboxed FOLDER MODE GRANTS`: launch one job's worker as a node does, print how it ended.

It is a program of its own so that a test can run it without capabilities.
"""

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from convoy.node import environment
from convoy.node.forks import ForkServer
from convoy.node.isolation import Walls, probe
from convoy.node.launcher import Order, ProcessLauncher
from convoy.spec.settings import Grants
from convoy.wire import convoy_pb2 as pb


async def launch(home: Path, mode: str, grants: Grants) -> None:
    """Run jobs/mine/code/train.py of a node whose folder is `home` until it ends."""
    isolation = probe(home)
    if mode == "landlock":
        isolation = dataclasses.replace(isolation, namespaces=False)
    walls = Walls.build(isolation, grants, [home])
    job = home / "jobs" / "mine"
    begin = pb.BeginTrainer(job="j", site="s", code=str(job / "code"), blobs=str(job / "blobs"), trainer="train.py")
    begin.data_json = json.dumps({"named": str(home.parent / "data" / "named.csv")})
    order = Order("convoy.worker.trainer", pb.WorkerDown(trainer=begin), job / "code", {})
    with ForkServer(["convoy.worker.trainer"], environment.of_all({})) as forks:
        launcher = ProcessLauncher(home, walls, forks)
        worker = await launcher.launch(order, lambda data: _say(data.decode(errors="replace")))
        ended = asyncio.create_task(worker.ended())
        while await worker.receive() is not None:
            pass
        _say(f"ended: {await ended}\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(launch(Path(sys.argv[1]), sys.argv[2], Grants(**json.loads(sys.argv[3]))))
