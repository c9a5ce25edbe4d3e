"""The trainer at a site, with a real process: deaths are tried again, a cancelled task is not."""

import asyncio
import os

import pytest

from convoy import errors
from convoy.errors import JobFailed
from convoy.node.launcher import Order, ProcessLauncher
from convoy.site.trainer import Trainer
from convoy.wire import convoy_pb2 as pb

CODE = """
import os, signal, sys, convoy

@convoy.train
def train(task):
    with open("lives", "a") as lives:
        lives.write("x")
    if "die" in task.config:
        os.kill(os.getpid(), signal.SIGKILL)
    with open("gate") as gate:
        gate.read()
    return {}
"""


@pytest.fixture
async def trainer(tmp_path, walls):
    """A trainer whose one task waits at a named pipe."""
    (tmp_path / "train.py").write_text(CODE)
    (tmp_path / "blobs").mkdir()
    os.mkfifo(tmp_path / "gate")

    measured = []

    def make(group, config):
        begin = pb.BeginTrainer(job="ab" * 16, name="n", site="s", code=str(tmp_path), blobs=str(tmp_path / "blobs"))
        begin.out = str(tmp_path / "out")
        begin.trainer, begin.config_json, begin.data_json = "train.py", config, "{}"
        order = Order("convoy.worker.trainer", pb.WorkerDown(trainer=begin), tmp_path, {})
        return Trainer(
            order,
            ProcessLauncher(tmp_path, walls),
            group,
            lambda _: None,
            lambda _: None,
            lambda: None,
            measured.append,
            lambda: make.alive.append("alive"),
            pulse_s=60,
        )

    make.alive = []
    return make


TASK = pb.Task(job="ab" * 16, question=pb.Question(id="1.0", kind="train", round=1))


async def test_a_trainer_that_dies_at_each_try_fails_the_task_after_three(trainer, tmp_path):
    async with asyncio.TaskGroup() as group:
        made = trainer(group, '{"die": 1}')
        with pytest.raises(JobFailed) as died:
            await made.train(TASK)
        await made.stop()
    assert errors.line(died.value) == "the trainer died 3 times at this task: killed by SIGKILL"
    assert (tmp_path / "lives").read_text() == "xxx"


async def test_a_trainer_whose_orphan_holds_its_output_is_seen_to_die_and_takes_it_along(trainer, tmp_path):
    orphan = "import subprocess; subprocess.Popen(['cat', 'gate'], start_new_session=True)\n"
    (tmp_path / "train.py").write_text(orphan + CODE)
    async with asyncio.TaskGroup() as group:
        made = trainer(group, '{"die": 1}')
        with pytest.raises(JobFailed) as died:
            await made.train(TASK)
        await made.stop()
    assert died.value.why == "killed by SIGKILL"


async def test_a_cancelled_task_ends_its_process_and_is_not_tried_again(trainer, tmp_path):
    async with asyncio.TaskGroup() as group:
        made = trainer(group, "{}")
        training = group.create_task(made.train(TASK))
        pipe = await asyncio.to_thread(open, tmp_path / "gate", "w")  # returns when the trainer stands at it
        await made.cancel()
        reply = await training
        pipe.close()
        await made.stop()  # the fresh one
    assert reply.failed.error == "its answer is not needed any more"
    assert (tmp_path / "lives").read_text() == "x"


async def test_a_trainer_that_is_stopped_in_a_task_gets_no_time_and_says_so(trainer, tmp_path):
    async with asyncio.TaskGroup() as group:
        made = trainer(group, "{}")
        training = group.create_task(made.train(TASK))
        pipe = await asyncio.to_thread(open, tmp_path / "gate", "w")
        assert await made.stop(3600) == "was ended during a task whose answer is not needed any more"
        pipe.close()
        training.cancel()
    assert trainer.alive == ["alive"], "a start is progress, whatever it took"
