"""A server that is stopped, or whose ledger takes no record, for longer than a job's patience: no site pays for it."""

import contextlib
import os
import signal
import sqlite3
import threading

import pytest

from tests.scenarios.conftest import put_job

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]

PATIENCE_S = 6
TRAIN = """
import time
import numpy as np


def initial():
    return {"w": np.zeros(1)}


def train(task):
    time.sleep(0.1)  # so that a round lasts, and the server is stopped within one
    return {"w": task.model["w"] + 1}
"""


@contextlib.contextmanager
def stopped(federation):
    """Stop the server's process, as a paused virtual machine or container is."""
    os.kill(federation.server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(federation.server.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def locked(federation):
    """Keep everybody else from writing into the ledger, as a tool for databases does that an operator has opened."""
    [ledger] = federation.server.kit.rglob("convoy.sqlite")
    with contextlib.closing(sqlite3.connect(ledger, isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("held_up", [stopped, locked])
def test_a_server_that_is_held_up_for_longer_than_the_patience_leaves_no_site_out(pair, tmp_path, held_up):
    spec = {
        "workflow": "fedavg",
        "with_": {"rounds": 8, "min_sites": 2},
        "patience": f"{PATIENCE_S}s",
        "trainer": "train.py:train",
    }
    with pair.session(300) as session:
        job, done = session.submit(put_job(tmp_path / "job", {"train.py": TRAIN}, **spec)).id, False
        for progress in session.watch(job):
            if not done and progress.rounds and progress.rounds[-1].round >= 2:
                with held_up(pair):
                    threading.Event().wait(2 * PATIENCE_S)
                done = True
        found = session.wait(job)
    assert found.job.state == "completed", found.job.cause
    assert [one.left_out for one in found.rounds] == [[]] * len(found.rounds)
