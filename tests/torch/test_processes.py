"""Trainers in two processes of torchrun: each gets every task, rank 0 replies, and a process that dies is replaced."""

import numpy as np
import pytest

pytest.importorskip("torch")

pytestmark = pytest.mark.timeout(300)  # torchrun takes six seconds alone on two cores

BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7, np.int64)}
LARGE = {"w": np.arange(50_000, dtype=np.float32), "n": np.array(7, np.int64)}  # not inside a message

LAUNCH = """
import convoy.torch
convoy.torch.launch("ranks.py", processes=2)
"""
RANKS = """
import os, signal
import torch
from torch import distributed
import convoy

distributed.init_process_group("gloo")
rank = distributed.get_rank()
for task in convoy.tasks():
    count = int(task.state["count"][0]) + 1 if task.state else 1
    if [task.round, rank] == task.config["die"] and not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if [task.round, rank] == task.config["raise"]:
        raise ValueError("bad luck")
    total = torch.as_tensor(task.model["w"].copy()) * (rank + 1)
    distributed.all_reduce(total)
    print(f"rank {rank} of {os.environ['WORLD_SIZE']} at {task.site}", flush=True)  # in one piece: two processes print
    task.reply({"w": total, "n": task.model["n"]}, weight=rank + 4, metrics={"rank": rank},
               value={"pid": os.getppid()}, state={"count": torch.tensor([count])})
distributed.destroy_process_group()
"""


def answer(node):
    up = node.hear()
    assert up.WhichOneof("it") == "answer", up
    return up.answer


def test_all_ranks_get_each_task_and_a_rank_that_dies_or_raises_costs_at_most_its_own_task(job, trainer):
    job(launch_py=LAUNCH, ranks_py=RANKS)
    with trainer("launch.py", config={"die": [2, 0], "raise": [3, 1]}) as node:
        node.link._sock.settimeout(90)
        state, torchruns = "", []
        assert node.hear().HasField("ready")
        for round_, base in ((1, BASE), (2, LARGE), (3, BASE), (4, LARGE)):
            node.task(node.save(base), question=f"{round_}.0", round_=round_, state=state)
            if round_ == 3:
                failed = node.hear().failed
                assert failed.error.startswith("rank 1: ValueError: bad luck")
                assert 'ranks.py", line' in failed.traceback
                continue
            said = answer(node)
            assert (said.question, said.weight, dict(said.metrics)) == (f"{round_}.0", 4, {"rank": 0})
            np.testing.assert_array_equal(node.load(said.digest)["w"], base["w"] * 3)
            state = said.state
            assert node.load(state)["count"].tolist() == [round_ - (round_ > 3)]
            torchruns.append(said.value)
        assert len(set(torchruns)) == 3  # started again after the death and after the error
        node.bye()
        status, printed = node.end()
        assert status == 0, printed
        assert all(printed.count(f"rank {rank} of 2 at site-1") == 3 for rank in (0, 1))


MEASURES = """
import os
import convoy

rank = int(os.environ["RANK"])
for task in convoy.tasks():
    convoy.metrics({"loss": 0.5 + rank}, step=task.round)
    task.reply(task.model)
convoy.metrics({"final": 1.0 + rank})
"""


def test_the_live_metrics_of_rank_0_are_the_site_s_also_after_the_last_task(job, trainer):
    job(launch_py=LAUNCH, ranks_py=MEASURES)
    with trainer("launch.py") as node:
        node.link._sock.settimeout(90)
        assert node.hear().HasField("ready")
        node.task(node.save(BASE))
        said = [node.hear(), node.hear()]
        assert said[1].HasField("answer")
        node.bye()
        said.append(node.hear())
        status, printed = node.end()
        assert status == 0, printed
    assert [dict(one.values) for up in (said[0], said[2]) for one in up.points.points] == [
        {"loss": 0.5},
        {"final": 1.0},
    ]


def test_a_file_that_is_not_there_is_named(job, trainer):
    job(launch_py=LAUNCH.replace("ranks.py", "none.py"))
    with trainer("launch.py") as node:
        node.link._sock.settimeout(90)
        node.hear()
        node.task(node.save(BASE))
        assert "the job has no file none.py" in node.hear().failed.error


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (LAUNCH.replace("=2", "=0"), "0 processes"),
        ("import convoy\n@convoy.train\ndef train(task): return task.model\n" + LAUNCH, "beside a function of a task"),
    ],
    ids=["no process", "a function"],
)
def test_a_wrong_call_is_told(job, trainer, script, reason):
    job(launch_py=script, ranks_py=RANKS)
    with trainer("launch.py") as node:
        assert reason in node.hear().failure.error
