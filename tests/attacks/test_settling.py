"""Training that reaches a fixed point: each answer has the bytes, and so the file, of the one before.

CONVOY_SETTLING_ROUNDS runs it for longer than CI does: 5000 is its full length.
"""

import os
import random
import signal

import pytest

from convoy import testing
from tests.scenarios.conftest import put_job

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("CONVOY_SETTLING_ROUNDS", "300"))
SEED = int(os.environ.get("CONVOY_SETTLING_SEED", "7"))
TRAIN = """
import zlib
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(SIZE, np.float32)}


@convoy.train
def train(task):
    target = np.random.default_rng(zlib.crc32(task.site.encode())).standard_normal(SIZE).astype(np.float32)
    return convoy.Reply({"w": np.float32(0.5) * task.model["w"] + target}, weight=3)
"""
SIZES = pytest.mark.parametrize("size", [1_000, 50_000], ids=["inside a message", "by a transfer"])


SAME = TRAIN.replace("zlib.crc32(task.site.encode())", "7")  # the same target at both sites: it settles to the bit


def settling(folder, size, rounds, train=TRAIN):
    files = {"train.py": train.replace("SIZE", str(size))}
    return put_job(folder, files, with_={"rounds": rounds, "min_sites": 2}, patience="60s")


def in_memory(size):
    """Return the last model of the same job without processes: its rounds end in a cycle of a few models."""
    names = {}
    exec(TRAIN.replace("SIZE", str(size)), names)  # noqa: S102 - our own code
    sites = ("site-1", "site-2")
    return testing.run(
        "fedavg", names["train"], sites=sites, model=names["initial"], rounds=ROUNDS, min_sites=2
    ).model.digest


@SIZES
def test_a_job_that_settles_completes(pair, tmp_path, size):
    federation = pair
    with federation.session(600) as session:
        done = session.wait(session.submit(settling(tmp_path / "settling", size, ROUNDS, SAME)).id)
    assert done.job.state == "completed", done.job.cause
    assert [one.round for one in done.rounds] == list(range(ROUNDS + 1))
    assert all(len(one.took_part) == 2 for one in done.rounds[1:])
    assert done.rounds[-1].model == done.rounds[-2].model


@SIZES
def test_it_completes_with_the_same_bits_while_processes_of_every_kind_are_killed(pair, tmp_path, size):
    dice = random.Random(f"{SEED}-{size}")  # noqa: S311 - of a test
    federation = pair
    with federation.session(600) as session:
        job = session.submit(settling(tmp_path / "settling", size, ROUNDS)).id
        due, killed = 3, []
        for progress in session.watch(job):
            if progress.job.state != "running" or not progress.rounds or progress.rounds[-1].round < due:
                continue
            victim = dice.choice(["server", "site-1", "site-2", "workflow", "trainer-1", "trainer-2"])
            if kill(federation, victim):
                killed.append(victim)
            due = progress.rounds[-1].round + dice.randint(3, max(4, ROUNDS // 12))
        done = session.wait(job)
    assert done.job.state == "completed", (done.job.cause, killed)
    assert len(done.rounds) == ROUNDS + 1
    assert done.rounds[-1].model == in_memory(size)
    assert all(len(one.took_part) == 2 for one in done.rounds[1:])
    assert len(killed) >= 5


def kill(federation, victim):
    """kill -9 of a node, which is started again, or of a node's worker; return whether there was one."""
    kind, _, number = victim.partition("-")
    node = federation.server if kind in ("server", "workflow") else federation.nodes[f"site-{number}"]
    if kind in ("server", "site"):
        node.kill()
        node.start()
        return True
    for worker in node.children():
        os.kill(worker, signal.SIGKILL)
        return True
    return False
