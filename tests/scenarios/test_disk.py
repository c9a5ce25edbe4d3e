"""A disk that fills in the middle of a job, and one that loses bytes: said in words, nothing lost, and on it goes."""

import os
import shutil
import subprocess
from contextlib import closing, suppress

import numpy as np
import pytest
from safetensors.numpy import load_file

from convoy.errors import StorageFull
from convoy.store.ledger import open_ledger, sqlite_url
from tests.federation import Federation
from tests.scenarios.conftest import GATES, Gate, adding, overheard, put_job, readyz, took_part

pytestmark = pytest.mark.scenario
SIZE = 300_000  # numbers of the model: 1.2 MB, which travel as a stream
FLOW = '''
"""Federated averaging that waits at gates of the server: before it commits round 2, and before it returns."""
from convoy import Mean


def gate(config, place):
    if config["place"] == place:
        with open(config["arrived"], "w") as arrived:
            arrived.write("here")
        with open(config["gate"]) as gate:
            gate.read()


async def run(fleet, *, rounds: int = 3) -> None:
    async for round in fleet.rounds(rounds):
        mean = Mean(like=round.model)
        async for update in fleet.ask("train", round.model, at_least=2):
            mean.add(update)
        if round.number == 2:
            gate(fleet.job.config, "commit")
        await round.commit(mean.result(), metrics=mean.metrics)
    if fleet.job.config["place"] == "results":
        print("x" * 5_000_000)  # a log that is larger than the updates that are still to be removed
    gate(fleet.job.config, "results")
'''


class Disk:
    """A file system of its own, small enough to be filled."""

    def __init__(self, folder):
        self.folder = folder

    def fill(self):
        """Leave not a byte."""
        with (self.folder / "filler").open("wb", buffering=0) as file:
            for step in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while file.write(bytes(step)):
                        pass
        assert shutil.disk_usage(self.folder).free == 0

    def make_room(self):
        """Free what was filled."""
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk, which only root can."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def on_disk(disk, tmp_path):
    """A federation of two gated sites whose server works on that disk."""
    settings = f"workspace: {disk.folder}\ndisk_reserve: 16Mi\nisolation: {{write: [arrived, gate]}}"
    federation = Federation(tmp_path / "fed", settings=GATES, server_settings=settings)
    federation.gates = {name: Gate(node.kit / "local") for name, node in federation.nodes.items()}
    federation.gates["server"] = Gate(federation.server.kit / "local")
    yield federation
    federation.down()


def gated_job(federation, folder, place, train=None):
    """A job of three rounds whose workflow or trainers wait at `place`."""
    local = federation.server.kit / "local"
    config = {"place": place, "arrived": str(local / "arrived"), "gate": str(local / "gate")}
    files = {"flow.py": FLOW, "train.py": train or adding(size=SIZE)}
    return put_job(folder, files, workflow="flow.py:run", config=config, patience="8s")


def holds_the_right_model(session, job, folder):
    """Check that a job completed with what three rounds of two sites give."""
    detail = session.wait(job)
    assert detail.job.state == "completed", detail.job.cause
    assert [took_part(done) for done in detail.rounds[1:]] == [["site-1", "site-2"]] * 3
    session.fetch(job, folder)
    (model,) = folder.rglob("model.safetensors")
    np.testing.assert_allclose(load_file(model)["w"], 3 * 5 / 3, rtol=1e-6)


@pytest.mark.parametrize("place", ["updates", "commit", "results"])
def test_a_disk_that_fills_in_mid_job_stops_it_in_words_and_it_goes_on_when_there_is_room(
    place, on_disk, disk, tmp_path
):
    gates = ("site-1", "site-2") if place == "updates" else ("server",)
    train = adding("if task.round == 2: gate(task)" if place == "updates" else "", size=SIZE)
    with overheard(on_disk.server) as until:
        until("server ready")
        for node in on_disk.nodes.values():
            node.start()
        with on_disk.session() as session:
            job = session.submit(gated_job(on_disk, tmp_path / "job", place, train)).id
            for gate in gates:
                on_disk.gates[gate].wait()
            disk.fill()
            for gate in gates:
                on_disk.gates[gate].open()
            until("disk is full")
            status, why = readyz(on_disk.server)
            assert (status, why[:26]) == (503, "the server's disk is full:")
            assert session.status().problem == why.strip()
            with pytest.raises(StorageFull, match="takes no new jobs now"):
                session.submit(gated_job(on_disk, tmp_path / "refused", "nowhere"))
            assert session.job(job).job.state in ("running", "ending")
            disk.make_room()
            until("over: ")
            assert readyz(on_disk.server) == (200, "ready\n")
            if place == "commit":  # a workflow that found no room begins its round anew, and comes to the gate again
                on_disk.gates["server"].wait()
                on_disk.gates["server"].open()
            holds_the_right_model(session, job, tmp_path / "results")
            again = session.submit(gated_job(on_disk, tmp_path / "again", "nowhere")).id
            holds_the_right_model(session, again, tmp_path / "results-again")


@pytest.mark.parametrize("leave", ["kill", "stop"])
def test_a_server_that_starts_on_a_full_disk_says_so_and_goes_on_when_there_is_room(leave, on_disk, disk, tmp_path):
    server = on_disk.server
    on_disk.up()
    train = adding("if task.round == 2: gate(task)", size=SIZE)
    with on_disk.session() as session:
        job = session.submit(gated_job(on_disk, tmp_path / "job", "nowhere", train)).id
        for site in on_disk.nodes:
            on_disk.gates[site].wait()
        disk.fill()
        for site in on_disk.nodes:
            on_disk.gates[site].open()
        assert not getattr(server, leave)()
        with overheard(server) as until:
            until("server ready")
            assert readyz(server)[0] == 503
            disk.make_room()
            until("over: ")
            holds_the_right_model(session, job, tmp_path / "results")


def test_a_bundle_that_does_not_fit_is_refused_and_leaves_nothing_behind(on_disk, disk, tmp_path):
    on_disk.up()
    job = gated_job(on_disk, tmp_path / "job", "nowhere")
    (job / "large.bin").write_bytes(os.urandom(30 << 20))
    with on_disk.session() as session:
        with pytest.raises(StorageFull):
            session.submit(job)
        assert session.jobs() == []
        assert list((disk.folder / "jobs").iterdir()) == []
        (job / "large.bin").unlink()
        holds_the_right_model(session, session.submit(job).id, tmp_path / "results")


def waits_for_site_2(session, job, gates):
    """Submit a job whose second site stops at its gate in round 2; return its id once the first one has answered."""
    job = session.submit(job).id
    gates["site-2"].wait()
    for seen in session.watch(job):
        if seen.job.round == 1 and seen.job.waiting_for == ["site-2"]:
            break
    return job


@pytest.mark.parametrize("loss", ["deleted", "changed", "cut"])
def test_an_update_that_the_servers_disk_lost_is_pulled_again_and_changes_no_bit(loss, pair, tmp_path):
    federation, gates = pair, pair.gates
    train = adding("print('training in round', task.round)\nif task.round == 2 and number == 2: gate(task)", size=SIZE)
    job = put_job(tmp_path / "job", {"train.py": train}, with_={"rounds": 3, "min_sites": 2})
    with federation.session() as session:
        job = waits_for_site_2(session, job, gates)
        federation.server.stop()
        work = federation.server.kit / "work"
        with closing(open_ledger(sqlite_url(work / "convoy.sqlite"))) as ledger:
            (kept,) = [task for task in ledger.load().tasks if task.job == job and task.state == "received"]
        update = work / "jobs" / job / "blobs" / f"{kept.answer.digest}.safetensors"
        data = bytearray(update.read_bytes())
        data[-1] ^= 1
        match loss:
            case "deleted":
                update.unlink()
            case "changed":
                update.write_bytes(data)
            case "cut":
                os.truncate(update, len(data) // 2)
        federation.server.start()
        gates["site-2"].open()
        holds_the_right_model(session, job, tmp_path / "results")
        said = [line.text.split(" ", 1)[1] for line in session.logs(job, site="site-1")]
        assert said == [f"training in round {number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("size", [1_000, SIZE], ids=["inside a message", "by a transfer"])
def test_models_that_the_servers_disk_lost_are_made_again_and_no_bit_changes(size, pair, tmp_path):
    federation, gates = pair, pair.gates
    train = adding("if task.round == 2 and number == 2: gate(task)", size=size)
    job = put_job(tmp_path / "job", {"train.py": train}, with_={"rounds": 3, "min_sites": 2}, patience="30s")
    with federation.session() as session:
        job = waits_for_site_2(session, job, gates)
        federation.server.kill()
        work = federation.server.kit / "work"
        with closing(open_ledger(sqlite_url(work / "convoy.sqlite"))) as ledger:
            (newest,) = [made.model for made in ledger.load().rounds if made.job == job]
        for name in (work / "jobs" / job / "blobs").rglob(f"*{newest}*"):
            name.unlink()
        federation.server.start()
        gates["site-2"].open()
        holds_the_right_model(session, job, tmp_path / "results")
