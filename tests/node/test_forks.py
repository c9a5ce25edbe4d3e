"""Workers that are forked from a process of the node's: what each has of its own, and what a death leaves."""

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from convoy.node import environment
from convoy.node.forks import ForkServer
from convoy.node.launcher import Order, ProcessLauncher
from convoy.wire import convoy_pb2 as pb
from convoy.worker import forks, linux
from tests.node.test_launcher import children
from tests.scenarios.conftest import ended

SAYS = """
import json, os, sys
import numpy as np
import random
said = {
    "parent": os.getppid(), "leader": os.getsid(0) == os.getpid(), "folder": os.getcwd(), "env": dict(os.environ),
    "dice": [float(np.random.random()), random.random()], "argv": sys.argv[1:],
    "open": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd")
                   if os.path.lexists(f"/proc/self/fd/{fd}")),
}
print(json.dumps(said), flush=True)
"""
WAITS = "import signal; print('here', flush=True); signal.pause()"
NODE = """
import asyncio, sys
from pathlib import Path
from convoy.node import environment
from convoy.node.forks import ForkServer
from convoy.node.isolation import Walls, probe
from convoy.node.launcher import Order, ProcessLauncher
from convoy.spec.settings import Grants
from convoy.wire import convoy_pb2 as pb

async def main(home):
    forks = ForkServer(["convoy.worker.trainer"], environment.of_all({}))
    launcher = ProcessLauncher(home, Walls.build(probe(home), Grants(), [home]), forks)
    begin = pb.BeginTrainer(job="j", site="s", code=str(home / "code"), trainer="train.py")
    here = asyncio.Event()
    order = Order("convoy.worker.trainer", pb.WorkerDown(trainer=begin), home / "code", {})
    worker = await launcher.launch(order, lambda _: here.set())
    ended = asyncio.create_task(worker.ended())
    await here.wait()
    print(worker.pid, forks._process.pid, flush=True)
    await ended

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def launcher(tmp_path, walls):
    """The launcher of a node in `tmp_path`, with a process that forks its workers."""
    (tmp_path / "code").mkdir()
    with ForkServer(["convoy.worker.trainer", "numpy.random"], environment.of_all({"OF_ALL": "yes"})) as forks:
        yield ProcessLauncher(tmp_path, walls, forks)


async def launched(launcher, place, code, **env):
    """Launch a script as a trainer; return the worker, its end, and what it prints."""
    (place / "code" / "train.py").write_text(code)
    begin = pb.BeginTrainer(job="j", site="s", code=str(place / "code"), trainer="train.py")
    printed, some = bytearray(), asyncio.Event()

    def output(data):
        printed.extend(data)
        some.set()

    order = Order("convoy.worker.trainer", pb.WorkerDown(trainer=begin), place / "code", env)
    worker = await launcher.launch(order, output)
    ending = asyncio.create_task(worker.ended())
    await some.wait()
    return worker, ending, printed


async def test_each_has_its_own_environment_folder_session_and_dice(launcher, tmp_path):
    said = []
    for env in ({"MINE": "1"}, {"ALSO": "2"}):
        _, ending, printed = await launched(launcher, tmp_path, SAYS, **env)
        await ending
        said.append(json.loads(printed.splitlines()[0]))
    one, two = said
    assert one["folder"] == two["folder"] == str(tmp_path / "code")
    assert one["env"].pop("MINE") == "1"
    assert two["env"].pop("ALSO") == "2"
    for of_one in ("CONVOY_WORKER_FD", "CONVOY_SANDBOX"):
        assert one["env"].pop(of_one)
        assert two["env"].pop(of_one)
    assert one["env"] == two["env"]
    assert forks.DESCRIPTOR not in one["env"]
    assert not {*one["dice"]} & {*two["dice"]}
    assert one["open"].count("socket") == 1, "its line to the node, and not that of the process that forked it"
    assert "memfd" not in " ".join(one["open"])


async def test_the_memory_of_a_worker_has_nothing_of_another_ones_order(launcher, tmp_path):
    secret, unknown = "of-an-earlier-order", "nobody-has-said-this"
    _, ending, _ = await launched(launcher, tmp_path, "print('here')", SECRET=secret)
    await ending
    looks = f"""
wanted = [it[::-1].encode() for it in ({secret[::-1]!r}, {unknown[::-1]!r})]  # its own copies of both are as many
found = [0, 0]
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps.read().splitlines():
        begin, end = (int(it, 16) for it in line.split()[0].split("-"))
        if line.split()[1].startswith("rw") and "[v" not in line:
            memory.seek(begin)
            data = memory.read(end - begin)
            found = [so_far + data.count(it) for so_far, it in zip(found, wanted)]
print(*found)
"""
    _, ending, printed = await launched(launcher, tmp_path, looks)
    await ending
    of_another, of_nobody = map(int, printed.splitlines()[0].split())
    assert 0 < of_another == of_nobody


async def test_a_process_that_was_killed_is_started_again_and_its_workers_go_on(launcher, tmp_path):
    first, first_ends, _ = await launched(launcher, tmp_path, WAITS)
    process = launcher._forks._process
    process.kill()
    process.wait()
    second, second_ends, printed = await launched(launcher, tmp_path, WAITS)
    assert printed.startswith(b"here")
    assert launcher._forks._process.pid != process.pid
    for worker, ends in ((first, first_ends), (second, second_ends)):
        assert not ends.done()
        await worker.stop(5)
        assert await ends == "killed by SIGTERM"


def test_all_end_with_their_node(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(WAITS)
    node = subprocess.Popen([sys.executable, "-c", NODE, tmp_path], stdout=subprocess.PIPE, text=True)
    numbers = [int(it) for it in node.stdout.readline().split()]
    family = linux.family(numbers, linux.processes())
    assert len(family) >= 3
    node.kill()
    node.wait()
    node.stdout.close()
    assert ended(family, within_s=30)


def test_a_fork_that_the_machine_refuses_is_an_error_of_that_start_alone(monkeypatch):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def refuses():
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(forks.os, "fork", refuses)
    open_before = os.listdir("/proc/self/fd")
    serving = threading.Thread(target=forks._serve, args=[theirs])
    serving.start()
    with open(os.devnull) as null, ours:
        for _ in range(2):
            answer, theirs_to_answer = socket.socketpair()
            with answer:
                with theirs_to_answer:
                    socket.send_fds(ours, [b"\0"], [null.fileno()] * 3 + [theirs_to_answer.fileno()])
                assert forks.NUMBER.unpack(answer.recv(4)) == (-errno.EAGAIN,)
    serving.join()
    assert len(os.listdir("/proc/self/fd")) == len(open_before) - 1  # the test's own end is closed
    theirs.close()


async def test_a_process_that_cannot_load_its_modules_fails_the_start(tmp_path, walls, capfd):
    (tmp_path / "code").mkdir()
    before = set(children())
    begin = pb.WorkerDown(trainer=pb.BeginTrainer(job="j", site="s", code=str(tmp_path / "code"), trainer="t.py"))
    with ForkServer(["convoy.worker.no_such_module"], environment.of_all({})) as broken:
        launcher = ProcessLauncher(tmp_path, walls, broken)
        with pytest.raises(ConnectionError, match="the process that starts workers has ended twice"):
            await launcher.launch(Order("convoy.worker.trainer", begin, tmp_path / "code", {}), lambda _: None)
    assert "No module named 'convoy.worker.no_such_module'" in capfd.readouterr().err
    assert set(children()) == before
