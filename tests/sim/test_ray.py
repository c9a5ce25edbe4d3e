"""A simulation on a Ray cluster: the same bits as in one process, and what becomes of actors that die or hang."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from convoy.errors import BadInput, Unreachable
from convoy.sim import actor, cluster
from convoy.sim.plan import read_plan
from convoy.sim.run import run
from convoy.sim.workers import gathered
from convoy.store.arrays import read_file
from tests.scenarios.conftest import put_job
from tests.sim.test_simulate import CACHING, FAILING, LOOP, WORKFLOWS, digest, job

if importlib.util.find_spec("ray") is None:  # it is imported by the tests: it reads its environment at that time
    pytest.skip("Ray is not installed: it comes with requirements-test.txt", allow_module_level=True)
TOKEN = "0123456789abcdef" * 4  # of clusters that only this machine reaches
STORE = 80 << 20  # bytes of each machine's store
START = "import numpy as np\ndef initial():\n    return {'w': np.zeros(1)}\n"
CROSSING = (  # a workflow for each kind of thing that goes to an actor or comes back; `test_simulate.py` has them all
    "fedavg", "a sample", "scaffold", "keys of a scaffold", "fragments", "swarm", "cross_site", "xgboost_histogram",
    "random_forest",
)  # fmt: skip
pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module", autouse=True)
def environment():
    """The token of our clusters, so that Ray makes none in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        yield


@pytest.fixture(scope="module")
def machines(environment):
    """A cluster of two machines, both on this one; they listen on the loopback address alone."""
    import ray
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.LOCAL.items():
            patch.setenv(name, value)
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
        made = Cluster(shutdown_at_exit=False)
        try:
            for _ in range(2):
                made.add_node(num_cpus=2, object_store_memory=STORE, include_dashboard=False)
            patch.setenv("RAY_ADDRESS", made.address)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture
def alone(monkeypatch):
    """No cluster is known: a Ray is started for each simulation."""
    monkeypatch.setenv("RAY_ADDRESS", "local")


def simulate(plan, results, *, workers=None, gpus_per_site=None, say=print, **more):
    with gathered(workers, engine="ray", gpus_per_site=gpus_per_site, say=say) as choice:
        return run(plan, results, workers=choice, **more)


def left():
    """Return the folders of actors on this machine."""
    return set(Path(tempfile.gettempdir()).glob("convoy-actor-*"))


def both(folder, tmp_path, sites):
    """Return a job's final models in this process and on a cluster, with an actor on each machine."""
    plan = read_plan(folder, sites=sites)
    inside = digest(run(plan, tmp_path / "inside", workers=0))
    return inside, digest(simulate(plan, tmp_path / "results", workers=2))


@pytest.mark.parametrize("name", CROSSING)
def test_the_model_is_that_of_one_process(machines, tmp_path, name):
    inside, actors = both(job(tmp_path / "job", **WORKFLOWS[name]), tmp_path, 3)
    assert actors == inside


def test_a_loop_of_tasks_goes_on_at_each_site_and_what_follows_it_is_done(machines, tmp_path):
    before = left()
    files = {"loop.py": LOOP, "train.py": START}
    inside, actors = both(put_job(tmp_path / "job", files, trainer="loop.py", with_={"rounds": 3}), tmp_path, 4)
    assert actors == inside
    for number in range(1, 5):
        assert "taken: 3" in (tmp_path / "results" / "logs" / f"site-{number}.log").read_text()
    assert left() == before


LARGE = """
import pathlib
import numpy as np
import ray
import convoy


def initial():
    return {"w": np.zeros(1 << 18, np.float32)}


def train(task):
    w = task.model["w"]
    assert not w.flags.writeable
    assert not w.flags.owndata
    seen = task.state.get("seen", np.zeros(1 << 18, np.float32)) + 1
    pathlib.Path("artifacts").mkdir(exist_ok=True)
    pathlib.Path("artifacts", f"{task.round}.txt").write_text(task.site)
    print("machine", ray.get_runtime_context().get_node_id(), "round", seen[0])
    return convoy.Reply({"w": w + seen}, state={"seen": seen})
"""


def test_visits_are_done_on_all_machines_and_each_site_stays_on_its_own_with_models_and_states_of_any_size(
    machines, tmp_path
):
    said = []
    folder = put_job(tmp_path / "job", {"train.py": LARGE}, trainer="train.py:train", with_={"rounds": 3})
    plan = read_plan(folder, sites=8)
    done = simulate(plan, tmp_path / "results", say=said.append)
    digest(done)
    assert said == ["Ray: a running cluster: 4 cores and 0 GPUs on 2 machines"]
    logs = [(tmp_path / "results" / "logs" / f"site-{at}.log").read_text() for at in range(1, 9)]
    homes = [set(re.findall(r"machine (\w+)", log)) for log in logs]
    assert all(len(home) == 1 for home in homes)
    assert len(set.union(*homes)) == 2
    assert [re.findall(r"round (\S+)", log) for log in logs] == [["1.0", "2.0", "3.0"]] * 8
    assert read_file(tmp_path / "results" / "model.safetensors")["w"][0] == 6.0
    kept = tmp_path / "results" / "artifacts" / "site-5"
    assert {file.name: file.read_text() for file in kept.iterdir()} == {f"{at}.txt": "site-5" for at in (1, 2, 3)}


def test_an_actor_that_dies_costs_the_task_that_it_died_at_and_no_other(machines, tmp_path):
    before = left()
    files = {"train.py": FAILING.replace("DEED", "import os; os._exit(7)")}
    folder = put_job(tmp_path / "job", files, trainer="train.py:train", with_={"rounds": 2})
    done = simulate(read_plan(folder, sites=6), tmp_path / "results", workers=2)
    digest(done)
    for made in done.rounds[1:]:
        assert [site for site, _ in made.left_out] == ["site-2"]
        assert "the trainer died at this task: The actor is dead because its worker process" in made.left_out[0][1]
        assert len(made.took_part) == 5
    assert left() == before


def test_a_trainer_that_hangs_is_ended_after_the_jobs_patience(machines, tmp_path):
    files = {"train.py": FAILING.replace("DEED", "import time; time.sleep(600)")}
    folder = put_job(tmp_path / "job", files, trainer="train.py:train", patience="6s", with_={"rounds": 1})
    done = simulate(read_plan(folder, sites=4), tmp_path / "results", workers=2)
    digest(done)
    assert [site for site, _ in done.rounds[1].left_out] == ["site-2"]


def test_a_path_that_a_machine_does_not_see_is_the_news_of_its_sites(machines, tmp_path):
    (tmp_path / "part.txt").write_text("1")
    reading = "import pathlib\n" + CACHING.replace(
        "    SEEN.append(task.site)\n", "    pathlib.Path(task.data['part'] + '.nowhere').read_text()\n"
    )
    files = {"train.py": reading.replace("    assert set(SEEN) == {task.site}, SEEN\n", "")}
    folder = put_job(tmp_path / "job", files, trainer="train.py:train")
    plan = read_plan(folder, sites=2, data={"part": tmp_path / "part.txt"})
    done = simulate(plan, tmp_path / "results")
    assert done.job.state == "failed"
    assert "FileNotFoundError" in done.job.cause


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"workers": 5}, "5 workers do not fit: there is room for 4"),
        ({"workers": 0}, "0 workers"),
        ({"gpus_per_site": 0.5}, "no GPU is at hand"),
    ],
)
def test_what_the_cluster_has_no_room_for_is_refused_before_anything_starts(machines, tmp_path, more, said):
    with pytest.raises(BadInput, match=said):
        simulate(read_plan(job(tmp_path / "job"), sites=9), tmp_path / "results", **more)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [("127.0.0.1:1", Unreachable, "no Ray cluster answers"), ("ray://127.0.0.1:1", BadInput, "names no cluster")],
)
def test_an_address_at_which_there_is_no_cluster_is_refused(tmp_path, monkeypatch, address, error, said):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(error, match=said):
        simulate(read_plan(job(tmp_path / "job"), sites=2), tmp_path / "results")


def test_without_ray_the_line_to_type_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=re.escape("pip install 'convoy-fl[ray]'")):
        simulate(read_plan(job(tmp_path / "job"), sites=2), tmp_path / "results")


def test_a_ray_of_our_own_listens_on_the_loopback_address_alone_and_ends_with_the_simulation(alone, tmp_path):
    plan, said, heard = read_plan(job(tmp_path / "job"), sites=2), [], set()
    done = simulate(plan, tmp_path / "results", say=said.append, told=lambda *_: heard.update(listening()))
    digest(done)
    assert said[0].startswith("Ray: one on this machine, started for this simulation")
    assert heard
    assert {host for host in heard if not host.startswith("127.")} == set()


def listening():
    """Return the addresses on which Ray's processes of this user listen."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if "ray" in " ".join(process.info["cmdline"] or ()):
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    yield connection.laddr.ip.removeprefix("::ffff:")


def test_ctrl_c_ends_everything_and_leaves_what_was_committed(alone, tmp_path):
    before = left()
    job(tmp_path / "job", with_={"rounds": 100_000, "min_sites": 3})
    command = [Path(sys.executable).with_name("convoy"), "simulate", "job", "--sites", "3", "--engine", "ray"]
    with subprocess.Popen(
        [*command, "-o", "results"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - as in test_simulate.py
    ) as running:
        assert "started for this simulation" in running.stdout.readline()
        assert "round 1/" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate()
    assert running.returncode == 1, said
    assert "aborted by an interrupt" in said
    assert json.loads((tmp_path / "results" / "job.json").read_text())["state"] == "aborted"
    assert (tmp_path / "results" / "model.safetensors").is_file()
    assert left() == before


def test_of_a_visit_that_prints_too_much_the_beginning_and_the_end_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(actor, "MOST_PRINTED", 8)
    (tmp_path / "a.log").write_bytes(b"0123456789")
    assert actor.bounded(tmp_path / "a.log") == b"0123\nconvoy: 2 bytes of output are missing here\n6789"
    (tmp_path / "a.log").write_bytes(b"01234567")
    assert actor.bounded(tmp_path / "a.log") == b"01234567"
