"""Workers that are forked from a process of the node's: what each has of its own, and what a death leaves."""

import asyncio
import errno
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

import convoy.node.forks
from convoy.node import environment
from convoy.node.forks import ForkServer
from convoy.node.launcher import Order, ProcessLauncher
from convoy.site.agent import FOR_TRAINERS
from convoy.wire import convoy_pb2 as pb
from convoy.worker import forks, linux
from tests.node.test_launcher import children
from tests.scenarios.conftest import ended

SAYS = """
import json, os, resource, signal, sys
import numpy as np
import random
said = {
    "leader": os.getsid(0) == os.getpid(), "folder": os.getcwd(), "env": dict(os.environ), "argv": sys.argv[1:],
    "path": sys.path, "flags": str(sys.flags), "umask": os.umask(0o22), "encoding": sys.stdout.encoding,
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "handlers": {str(it): str(signal.getsignal(it)) for it in signal.valid_signals()},
    "limits": [resource.getrlimit(it) for it in range(15)], "nice": os.nice(0),
    "open": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd")
                   if os.path.lexists(f"/proc/self/fd/{fd}")),
    "errors": np.geterr(), "warnings": len(sys.warnoptions),
    "ignored": open("/proc/self/status").read().split("SigIgn:")[1].split()[0],
    "score": open("/proc/self/oom_score_adj").read(), "buffers": sys.stdout.write_through,
}
dice = [float(np.random.random()), random.random()]
print(json.dumps([said, dice]), flush=True)
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
def lost():
    """What a fork server says when it is not there any more."""
    return []


@pytest.fixture
def launcher(tmp_path, walls, lost):
    """The launcher of a node in `tmp_path`, with a process that forks its workers."""
    (tmp_path / "code").mkdir()
    env = environment.of_all({"OF_ALL": "yes"})
    with ForkServer(["convoy.worker.trainer", "numpy.random"], env, lambda: lost.append("again")) as made:
        yield ProcessLauncher(tmp_path, walls, made)


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


async def test_a_forked_worker_has_what_one_that_was_started_anew_has(launcher, tmp_path, walls, monkeypatch):
    for name in ("LANG", "LC_ALL", "LC_CTYPE"):  # Python then sets one of them itself
        monkeypatch.delenv(name, raising=False)
    seen, all_dice = [], []
    with ForkServer(["convoy.worker.trainer", "numpy.random"], environment.of_all({"OF_ALL": "yes"})) as forking:
        for way in (None, forking, forking):
            made = ProcessLauncher(tmp_path, walls, way)
            _, ending, printed = await launched(made, tmp_path, SAYS, OF_ALL="yes", MINE="1")
            await ending
            said, dice = json.loads(printed.splitlines()[0])
            seen.append(said | {"env": said["env"] | {"CONVOY_WORKER_FD": ""}})
            all_dice += dice
    anew, *forked = seen
    for one in forked:
        assert one == anew
    assert len(set(all_dice)) == len(all_dice)
    assert anew["open"].count("socket") == 1


async def test_numpy_has_the_threads_that_a_trainer_of_a_site_asks_for(tmp_path, walls):
    (tmp_path / "code").mkdir()
    script = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
np.ones((500, 500)) @ np.ones((500, 500))
print(len(os.listdir("/proc/self/task")))
"""
    with ForkServer(FOR_TRAINERS, environment.of_all({})) as made:
        _, ending, printed = await launched(ProcessLauncher(tmp_path, walls, made), tmp_path, script)
        await ending
    assert printed.splitlines()[0] == b"1"


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


async def test_a_process_that_was_killed_is_started_again_and_its_workers_go_on(launcher, lost, tmp_path):
    first, first_ends, _ = await launched(launcher, tmp_path, WAITS)
    process = launcher._forks._process
    process.kill()
    process.wait()
    second, second_ends, printed = await launched(launcher, tmp_path, WAITS)
    assert printed.startswith(b"here")
    assert launcher._forks._process.pid != process.pid
    assert lost == ["again"]
    for worker, ends in ((first, first_ends), (second, second_ends)):
        assert not ends.done()
        await worker.stop(5)
        assert await ends == "killed by SIGTERM"


@pytest.mark.parametrize("end", [signal.SIGKILL, None], ids=["killed", "stopped"])
async def test_a_process_that_does_not_answer_is_started_again(launcher, lost, tmp_path, monkeypatch, end):
    worker, ending, _ = await launched(launcher, tmp_path, WAITS)
    await worker.stop(5)
    await ending
    before, process = set(children()), launcher._forks._process
    process.send_signal(signal.SIGSTOP)
    if end is None:
        monkeypatch.setattr(convoy.node.forks, "START_S", 5.0)  # of both tries: the second one loads its modules
    launching = asyncio.create_task(launched(launcher, tmp_path, WAITS))
    for _ in range(100):
        await asyncio.sleep(0)
    if end is not None:
        process.send_signal(end)
    worker, ending, _ = await launching
    assert lost == ["again"]
    await worker.stop(5)
    await ending
    assert set(children()) == before - {process.pid} | {launcher._forks._process.pid}


async def test_a_launch_that_is_cancelled_twice_while_nothing_answers_leaves_nothing(launcher, abandoned, tmp_path):
    worker, ending, _ = await launched(launcher, tmp_path, WAITS)
    await worker.stop(5)
    await ending
    before, process = set(children()), launcher._forks._process
    process.send_signal(signal.SIGSTOP)
    launching = asyncio.create_task(launched(launcher, tmp_path, WAITS))
    for _ in range(100):
        await asyncio.sleep(0)
    for _ in range(2):
        launching.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await launching
    process.send_signal(signal.SIGCONT)
    await asyncio.gather(*launcher._forks._asking)
    await abandoned[0].exited()
    assert set(children()) == before


def test_a_keeper_whose_number_nobody_takes_ends():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    answer, theirs_to_answer = socket.socketpair()
    reads, writes = os.pipe()
    with linux.Adopting(), ours, theirs_to_answer:
        process = subprocess.Popen(
            [sys.executable, "-m", forks.__name__],
            env={**environment.of_all({}), forks.DESCRIPTOR: str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        answer.close()
        socket.send_fds(ours, [b"\0"], [os.open(os.devnull, os.O_RDONLY), writes, writes, theirs_to_answer.fileno()])
        os.close(writes)
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(30) == 0
        with open(reads, "rb") as printed:
            assert printed.read() == b"", "it has read no order"
        assert os.waitpid(-1, 0)[1] == 1 << 8, "exit code 1"


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
    gc.collect()
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
