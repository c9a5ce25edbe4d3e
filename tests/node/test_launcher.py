"""A node's own processes: none is left behind, whatever happens to whoever starts them."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convoy.node import environment
from convoy.node.environment import MARK
from convoy.node.forks import ForkServer
from convoy.node.launcher import Order, ProcessLauncher
from convoy.wire import convoy_pb2 as pb


def children():
    """Return the processes whose parent this one is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
        except (OSError, IndexError):
            continue
    return found


@pytest.fixture
def forks():
    """A process that forks workers."""
    with ForkServer(["convoy.worker.trainer"], environment.of_all({})) as made:
        yield made


@pytest.fixture(params=["anew", "forked"])
def launcher(request, tmp_path, walls, forks):
    """The launcher of a node in `tmp_path`, whose workers are started in each way."""
    return ProcessLauncher(tmp_path, walls, forks if request.param == "forked" else None)


async def test_a_launch_that_is_cancelled_at_any_turn_of_the_loop_leaves_nothing(launcher, forks, abandoned, tmp_path):
    (tmp_path / "train.py").write_text("import signal\nsignal.pause()\n")
    begin = pb.WorkerDown(trainer=pb.BeginTrainer(job="j", site="s", code=str(tmp_path), trainer="train.py"))
    order, ways = Order("convoy.worker.trainer", begin, tmp_path, {}), set()
    worker = await launcher.launch(order, lambda _data: None)  # what it needs is loaded from here on
    ended = asyncio.create_task(worker.ended())
    await worker.stop(0)
    await ended
    before, files = set(children()), set(os.listdir("/proc/self/fd"))
    for turns in (*range(0, 30, 3), 100, 300, 1000, 3000):
        launch = asyncio.create_task(launcher.launch(order, lambda _data: None))
        for _ in range(turns):
            await asyncio.sleep(0)
        launch.cancel()
        try:
            worker = await launch
        except asyncio.CancelledError:
            ways.add("cancelled")
            await asyncio.gather(*forks._asking)
            for child in abandoned:
                await child.exited()
        else:
            ways.add("launched")
            ended = asyncio.create_task(worker.ended())
            await worker.stop(0)
            await ended
        await asyncio.sleep(0)  # transports close in the next turn
        assert set(children()) == before
        assert len(os.listdir("/proc/self/fd")) <= len(files)
    assert ways == {"cancelled", "launched"}


def test_what_a_killed_node_left_is_ended_and_nobody_else(tmp_path, walls):
    (tmp_path / "other").mkdir()

    def left(home):
        command = [sys.executable, "-c", "import signal; signal.pause()"]
        return subprocess.Popen(command, env={MARK: str(home)}, start_new_session=True)

    orphan, others = left(tmp_path), left(tmp_path / "other")
    try:
        assert ProcessLauncher(tmp_path, walls).bury() == 1
        assert orphan.wait(10) == -signal.SIGKILL
        assert others.poll() is None
        assert ProcessLauncher(tmp_path, walls).bury() == 0
    finally:
        others.kill()
        others.wait()


async def test_a_worker_that_dies_in_foreign_code_says_where(tmp_path, launcher):
    (tmp_path / "train.py").write_text("import ctypes\nctypes.string_at(0)\n")
    begin = pb.WorkerDown(trainer=pb.BeginTrainer(job="j", site="s", code=str(tmp_path), trainer="train.py"))
    printed = bytearray()
    worker = await launcher.launch(Order("convoy.worker.trainer", begin, tmp_path, {}), printed.extend)
    assert await worker.ended() == "killed by SIGSEGV"
    assert b"Segmentation fault" in printed
    assert b'train.py", line 2' in printed
