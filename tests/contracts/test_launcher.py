"""What a launcher has to do for its node, whether its workers are processes of the node's own, forked ones, or pods."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

from convoy.node import environment
from convoy.node.forks import ForkServer
from convoy.node.isolation import Isolation
from convoy.node.launcher import Order, ProcessLauncher
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from tests.pods.clusters import launching

TRAIN = """
import os
import convoy

@convoy.train
def train(task):
    print("asked in", os.environ.get("WHERE"), flush=True)
    return convoy.Reply({"w": task.model["w"] + 1}, weight=7)
"""
STUBBORN = """
import pathlib, signal
signal.signal(signal.SIGTERM, lambda *_: print("told to leave", flush=True))
print("here", flush=True)
while True:
    signal.pause()
"""


class JobAtNode:
    """A job's folder at a node, and the worker that is launched for it."""

    def __init__(self, folder, launcher):
        self.folder, self.launcher = folder, launcher
        self.blobs, self.out, self.code = BlobFolder(folder / "blobs"), folder / "out", folder / "code"
        for each in (self.blobs.folder, self.out, self.code):
            each.mkdir(parents=True)
        self.printed, self.waits, self.some = b"", [], asyncio.Condition()

    async def launch(self, train=TRAIN, **env):
        """Launch the trainer of a script."""
        (self.code / "train.py").write_text(train)
        begin = pb.BeginTrainer(job="ab" * 16, name="n", site="s", code=str(self.code), trainer="train.py")
        begin.blobs, begin.out, begin.config_json, begin.data_json = str(self.blobs.folder), str(self.out), "{}", "{}"
        order = Order("convoy.worker.trainer", pb.WorkerDown(trainer=begin), self.code, env)
        return await self.launcher.launch(order, self._print, self.waits.append)

    def _print(self, data):
        self.printed += data
        self._waking = asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self):
        async with self.some:
            self.some.notify_all()

    async def prints(self, text):
        """Wait until the worker has printed something."""
        async with self.some:
            await self.some.wait_for(lambda: text in self.printed)

    def task(self, value, size=10_000):
        """Return a task over a model of one value."""
        digest = arrays.save(self.blobs, "test", {"w": np.full(size, value, np.float32)})
        question = pb.Question(id="1.0", kind="train", round=1, model=digest)
        return pb.WorkerDown(task=pb.Task(job="ab" * 16, question=question))

    def take(self, up):
        """Take what the worker hands over, as a node does."""
        self.blobs.take("test", self.out, up.answer.digest, lambda *_: None, up.wholes.get(up.answer.digest, b""))
        return arrays.load(self.blobs, up.answer.digest)["w"]


async def answer(worker):
    """Return the next message of a trainer that is not about its getting ready."""
    while (up := await worker.receive()) is not None:
        if up.WhichOneof("it") != "ready":
            return up
    return None


@asynccontextmanager
async def processes(folder, walls):
    """Give the launcher of a node's own processes."""
    yield ProcessLauncher(folder, walls)


@asynccontextmanager
async def forked(folder, walls):
    """Give the launcher of processes that are forked from one that has loaded what they need."""
    with ForkServer(["convoy.worker.trainer", "numpy.random"], environment.of_all({})) as forks:
        yield ProcessLauncher(folder, walls, forks)


@asynccontextmanager
async def pods(folder, walls):
    """Give the launcher of pods, in a cluster that is made of processes."""
    async with launching(folder) as (launcher, _):
        yield launcher


@pytest.fixture(params=[processes, forked, pods])
async def job(request, tmp_path, walls):
    """Give a job's folder, and a launcher of each kind; whatever a test has launched is gone at the end."""
    async with request.param(tmp_path, walls) as launcher:
        yield JobAtNode(tmp_path / "job", launcher)


async def stopped(worker, grace_s=0.1):
    """Stop a worker as a node does, and return how it ended."""
    ended = asyncio.create_task(worker.ended())
    await worker.stop(grace_s)
    return await ended


def test_its_isolation_is_known_before_anything_is_launched(job):
    assert isinstance(job.launcher.isolation, Isolation)


@pytest.mark.parametrize("size", [100, 200_000], ids=["inside the message", "as a file"])
async def test_a_task_is_answered_and_what_the_worker_hands_over_can_be_taken(job, size):
    worker = await job.launch(WHERE="the right place")
    ended = asyncio.create_task(worker.ended())
    for value in (1, 5):
        worker.send(job.task(value, size))
        up = await answer(worker)
        assert up.answer.weight == 7
        np.testing.assert_array_equal(job.take(up), np.full(size, value + 1, np.float32))
    worker.send(pb.WorkerDown(bye=pb.Bye()))
    assert await answer(worker) is None
    assert await ended == ""
    assert job.printed.count(b"asked in the right place") == 2
    assert not job.waits or job.waits[-1] == ""
    assert worker.cpu_s() >= 0


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; print('last words', flush=True); os._exit(3)", "exit code 3"),
        (
            "import os, signal; print('last words', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
            "killed by SIGKILL",
        ),
    ],
    ids=["by itself", "by a signal"],
)
async def test_how_a_worker_ended_is_said_in_words_behind_all_that_it_has_printed(job, code, how):
    worker = await job.launch(code)
    ended = asyncio.create_task(worker.ended())
    assert await answer(worker) is None
    assert await ended == how
    assert b"last words" in job.printed


async def test_a_worker_that_is_gone_is_told_things_in_vain(job):
    worker = await job.launch("import os; os._exit(0)")
    assert await worker.ended() == ""
    worker.send(job.task(1))
    worker.send(pb.WorkerDown(bye=pb.Bye()))
    await worker.stop(1)
    assert await answer(worker) is None


async def test_a_worker_is_told_to_leave_and_ended_if_it_stays(job):
    worker = await job.launch(STUBBORN)
    ended = asyncio.create_task(worker.ended())
    await job.prints(b"here")
    await worker.stop(0.5)
    await ended
    assert b"told to leave" in job.printed


async def test_a_worker_that_has_not_begun_yet_can_be_stopped(job):
    worker = await job.launch(STUBBORN)
    await stopped(worker, 0)
