"""Whole federations of real processes, and jobs whose trainers wait at a gate until the test lets them go."""

import http.client
import json
import os
import select
import textwrap
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from convoy.worker import linux
from tests.federation import Federation, free_ports
from tests.trackers.mlflow_server import MLflowServer

TRAIN = '''
"""Adds to every weight a number that depends on the round and the site alone; may wait at the site's gate."""
import os
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(SIZE, np.float32), "steps": np.zeros(1, np.int64)}


@convoy.train
def train(task):
    print("round", task.round, "at", task.site)
    if task.round == task.config.get("gate"):
        with open(task.data["arrived"], "w") as arrived:
            arrived.write("here")
        with open(task.data["gate"]) as gate:
            gate.read()
    dice = np.random.default_rng([task.round, sum(map(ord, task.site))])
    w = task.model["w"] + dice.standard_normal(len(task.model["w"]), dtype=np.float32)
    return convoy.Reply(
        {"w": w, "steps": task.model["steps"] + 1}, weight=1 + len(task.site), metrics={"mean": float(w.mean())}
    )
'''
ADD = '''
"""Adds the site's number to every weight, with that number as its weight."""
import os
import sys
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(SIZE, np.float32)}


def gate(task):
    with open(task.data["arrived"], "w") as arrived:
        arrived.write("here")
    with open(task.data["gate"]) as gate:
        gate.read()


@convoy.train
def train(task):
    number, w = int(task.site[-1]), task.model["w"]
BODY
    return convoy.Reply({"w": w + number}, weight=number, metrics={"number": number})
'''
GATES = "data: {arrived: arrived, gate: gate}\nisolation: {write: [arrived, gate]}"


def put_job(folder: Path, files: dict[str, str], **spec) -> Path:
    """Write a job folder: its files, and job.yaml from the keywords (`with_` for `with`)."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {"name": folder.name, "trainer": "train.py", "model": "train.py:initial", "patience": "30s"}
    (folder / "job.yaml").write_text(json.dumps(known | {key.rstrip("_"): value for key, value in spec.items()}))
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def write_job(folder: Path, *, rounds=3, size=1000, gate=0, min_sites=2, patience="30s", train=TRAIN, **with_) -> Path:
    """Write a job folder; `gate` is the round in which every trainer waits."""
    return put_job(
        folder,
        {"train.py": train.replace("SIZE", str(size))},
        with_={"rounds": rounds, "min_sites": min_sites} | with_,
        config={"gate": gate},
        patience=patience,
    )


def adding(body: str = "", *, size: int = 4) -> str:
    """Return a train.py that adds the site's number; `body`, its lines before the reply, has task, w and number."""
    return ADD.replace("SIZE", str(size)).replace("BODY", textwrap.indent(textwrap.dedent(body), "    "))


def left_out(done) -> dict[str, str]:
    """Return who was left out of a round, and why."""
    return {one.site: one.reason for one in done.left_out}


def took_part(done) -> list[str]:
    """Return who took part in a round."""
    return [share.site for share in done.took_part]


def ended(pids, *, within_s: float) -> bool:
    """Wait until processes have ended, all of them; return whether they did in time."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], within_s)[0]:
                return False
        finally:
            os.close(descriptor)
    return True


def family(*nodes) -> list[int]:
    """Return the processes below nodes, without those that fork workers."""
    roots = {node.pid for node in nodes}
    stay = {pid for node in nodes for pid in node.forks()}
    return sorted(linux.family(roots, linux.processes()) - roots - stay)


def readyz(node, query: str = "") -> tuple[int, str]:
    """Return status and words of a node's readiness."""
    line = http.client.HTTPConnection("127.0.0.1", node.health_port, timeout=30)
    with closing(line):
        line.request("GET", f"/readyz{query}")
        answer = line.getresponse()
        return answer.status, answer.read().decode()


@contextmanager
def overheard(node):
    """Run a node, ready or not, for as long as the block lasts; give a function that waits for a word in its log."""
    node.log.unlink(missing_ok=True)
    os.mkfifo(node.log)
    reader = os.open(node.log, os.O_RDONLY | os.O_NONBLOCK)
    os.close(node.begin())
    os.set_blocking(reader, True)
    try:
        with os.fdopen(reader, encoding="utf-8") as lines:

            def until(word):
                said = []
                for line in lines:
                    said.append(line)
                    if word in line:
                        return
                raise AssertionError("".join(said))

            yield until
    finally:
        node.kill()
        node.log.unlink()


class Gate:
    """Two named pipes of one site: on one its trainer says that it has arrived, on the other it waits."""

    def __init__(self, local: Path) -> None:
        self._arrived, self._gate = local / "arrived", local / "gate"
        for path in (self._arrived, self._gate):
            os.mkfifo(path)

    def wait(self) -> str:
        """Return what the trainer says when it stands at the gate."""
        return self._arrived.read_text()

    def open(self) -> None:
        """Let the trainer go."""
        self._gate.write_text("go")


@pytest.fixture
def started(tmp_path):
    """Start federations that end with the test."""
    made = []

    def start(**options) -> Federation:
        federation = Federation(tmp_path / f"fed{len(made)}", **options)
        made.append(federation)
        return federation.up()

    yield start
    for federation in made:
        federation.down()


@pytest.fixture
def gated(started):
    """Start a federation of two sites, each with a gate."""

    def start(settings="", **options):
        federation = started(settings=f"{GATES}\n{settings}", **options)
        return federation, {name: Gate(node.kit / "local") for name, node in federation.nodes.items()}

    return start


@contextmanager
def gated_sites(folder: Path, sites: int):
    """Run a federation, each of whose sites has a gate."""
    federation = Federation(folder, sites=sites, settings=GATES).up()
    federation.gates = {name: Gate(node.kit / "local") for name, node in federation.nodes.items()}
    yield federation
    federation.down()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """One federation of three sites for all tests of a file, each site with a gate."""
    with gated_sites(tmp_path_factory.mktemp("three") / "fed", 3) as federation:
        yield federation


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """One federation of two sites for all tests of a file, each site with a gate."""
    with gated_sites(tmp_path_factory.mktemp("two") / "fed", 2) as federation:
        yield federation


def assert_left_as_found(federation) -> None:
    """Check that every node runs and that the workers have ended, for the next test of this federation."""
    nodes = (federation.server, *federation.nodes.values())
    dead = [node for node in nodes if node.process.poll() is not None]
    for node in dead:  # the next test has what it needs, whatever this one has left
        node.start()
    assert not dead, f"{dead[0].kit.name} died:\n{dead[0].log.read_text()[-3000:]}"
    for node in nodes:
        assert ended(node.children(), within_s=30)


@pytest.fixture
def pair(two):
    """The federation of two sites for tests that kill its processes: each starts again what it kills."""
    yield two
    assert_left_as_found(two)


@pytest.fixture
def trio(three):
    """The federation of three sites for tests that kill its processes: each starts again what it kills."""
    yield three
    assert_left_as_found(three)


@pytest.fixture
def session(three):
    """The admin's session at that federation."""
    with three.session() as session:
        yield session


@pytest.fixture(scope="module")
def one_mlflow(tmp_path_factory):
    """One server of MLflow for all tests of a file: to start one takes six seconds of a processor."""
    server = MLflowServer(tmp_path_factory.mktemp("mlflow"), free_ports(1)[0]).start()
    yield server
    server.kill()


@pytest.fixture
def mlflow(one_mlflow):
    """The server of MLflow for tests that kill it: each starts again what it kills."""
    yield one_mlflow
    if not one_mlflow.is_running():  # the next test has what it needs
        one_mlflow.kill()
        one_mlflow.start()
        raise AssertionError("the test left no server of MLflow:\n" + "".join(one_mlflow.log[-40:]))
