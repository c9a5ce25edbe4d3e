"""The demo's federation in a real Kubernetes: up, a job to its model, faults in mid-round, a new site, down to nothing.

On root's Debian 12 the cluster is made here. Elsewhere: KUBECONFIG and CONVOY_TEST_IMAGE, an image
that the cluster's nodes have or can pull.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from federations import DEMO

HERE = Path(__file__).parent
NAMESPACE = "breast-cancer"
TRAIN = '''
"""Adds to every weight a number that depends on the round and the site alone, and works for a while."""
import time
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(100_000, np.float32)}


@convoy.train
def train(task):
    over = time.monotonic() + task.config["seconds"]
    while time.monotonic() < over:
        np.ones(1000).sum()
    dice = np.random.default_rng([task.round, sum(map(ord, task.site))])
    w = task.model["w"] + dice.standard_normal(len(task.model["w"]), dtype=np.float32)
    return convoy.Reply({"w": w}, weight=1 + len(task.site), metrics={"mean": float(w.mean())})
'''
JOB = """
name: {name}
workflow: fedavg
with: {{rounds: 4, min_sites: 3}}
trainer: train.py
model: train.py:initial
config: {{seconds: {seconds}}}
patience: 2m
"""

pytestmark = [pytest.mark.kube, pytest.mark.timeout(3000)]  # the cluster's binaries may have to be built


def debian():
    release = platform.freedesktop_os_release() if sys.platform == "linux" else {}
    return (release.get("ID"), release.get("VERSION_ID")) == ("debian", "12")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The environment that leads to a cluster, and the image that its nodes have."""
    image = os.environ.get("CONVOY_TEST_IMAGE")
    if image and os.environ.get("KUBECONFIG"):
        yield dict(os.environ), image
        return
    if os.geteuid() != 0 or not debian():
        pytest.skip("a Kubernetes is made here by root on Debian 12 alone; elsewhere: KUBECONFIG and CONVOY_TEST_IMAGE")
    folder = tmp_path_factory.mktemp("kube")
    binaries = subprocess.run(["sh", HERE / "binaries.sh"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["sh", HERE / "images.sh", folder], check=True)
    script = [sys.executable, HERE / "local_cluster.py"]
    state = folder / "cluster"
    images = folder.glob("*.img.tar")
    done = subprocess.run([*script, "up", state, *images], stdout=subprocess.PIPE, text=True, check=True)
    try:
        path = f"{binaries}:{os.environ['PATH']}"
        yield os.environ | {"KUBECONFIG": done.stdout.strip(), "PATH": path}, "localhost/convoy:test"
    finally:
        subprocess.run([*script, "down", state], check=True)


class Desk:
    """A folder from which a person types."""

    def __init__(self, env, image, folder):
        self.env, self.image, self.folder = env, image, folder
        shutil.copy(DEMO, folder / "project.yml")

    def convoy(self, *words, code=0):
        command = [sys.executable, "-m", "convoy.cli.main", *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def up(self):
        return self.convoy("kube", "up", "--image", self.image, "--patience", "2m")

    def kubectl(self, *words):
        command = ["kubectl", "--namespace", NAMESPACE, *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=True).stdout

    def pods(self):
        found = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return {pod["metadata"]["name"]: pod for pod in found}

    def job(self, name, seconds):
        folder = self.folder / name
        folder.mkdir()
        (folder / "train.py").write_text(TRAIN)
        (folder / "job.yaml").write_text(JOB.format(name=name, seconds=seconds))
        return json.loads(self.convoy("job", "submit", folder, "--json"))["id"]

    def watch(self, job):
        """Yield the round that a job is in, and when that was told."""
        command = [sys.executable, "-m", "convoy.cli.main", "job", "watch", job, "--json"]
        with subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                yield json.loads(line)["job"]["round"], time.monotonic()
        assert process.returncode == 0

    def model(self, job):
        self.convoy("job", "fetch", job, "-o", self.folder / "results" / job)
        return (self.folder / "results" / job / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def desk(cluster, tmp_path_factory):
    """A federation that is up, and in the end gone."""
    made = Desk(*cluster, tmp_path_factory.mktemp("desk"))
    said = made.up()
    assert "3 sites have registered" in said
    yield made
    made.convoy("kube", "down", "--volumes")
    left = json.loads(made.kubectl("get", "all,configmaps,secrets,pvc,networkpolicies", "--output=json"))["items"]
    assert left == []
    spaces = json.loads(made.kubectl("get", "namespaces", "--output=json"))["items"]
    assert NAMESPACE not in {space["metadata"]["name"] for space in spaces}


@pytest.fixture(scope="module")
def undisturbed(desk):
    """The model of the job when nothing happens."""
    job = desk.job("calm", 0)
    assert [rounds for rounds, _ in desk.watch(job)][-1] == 4
    return desk.model(job)


def test_a_job_goes_from_submit_to_the_fetched_model(undisturbed):
    assert len(undisturbed) > 400_000


def test_twice_is_once(desk):
    before = {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()}
    said = desk.up()
    assert " unchanged\n" in said
    assert " made" not in said
    assert " changed" not in said
    assert {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()} == before


def test_status_and_logs_show_each_node(desk):
    nodes = json.loads(desk.convoy("kube", "status", "--json"))["nodes"]
    assert [(node["name"], node["state"]) for node in nodes] == [
        ("server", "ready"),
        *((f"hospital-{number}", "registered") for number in (1, 2, 3)),
    ]
    assert len({node["machine"] for node in nodes}) > 1
    assert "registered" in desk.convoy("kube", "logs", "hospital-1")


def test_pods_are_what_the_objects_say(desk):
    for pod in desk.pods().values():
        sources = [
            source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", [])
        ]
        assert not any("serviceAccountToken" in source for source in sources)
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert desk.kubectl("exec", "hospital-1-0", "--", "id", "-u").strip() == "65532"


@pytest.mark.parametrize(("pod", "patience_s"), [("server-0", 60), ("hospital-2-0", 60)])
def test_a_pod_that_is_killed_in_mid_round_costs_no_round_and_no_bit(
    desk, undisturbed, pod, patience_s, record_property
):
    job = desk.job(f"killed-{pod}", 1.5)
    killed, resumed, last = 0.0, 0.0, 0
    for rounds, told in desk.watch(job):
        if rounds == 1 and not killed:
            desk.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
            killed = time.monotonic()
        elif killed and rounds > 1 and not resumed:
            resumed = told
        last = rounds
    assert last == 4
    assert desk.model(job) == undisturbed
    record_property("seconds_to_the_next_round", round(resumed - killed, 1))
    assert resumed - killed < patience_s


def test_a_new_site_joins_and_leaves_and_nobody_else_is_touched(desk):
    before = {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()}
    project = desk.folder / "project.yml"
    was = project.read_text()
    project.write_text(was + "  - {name: hospital-4, type: client, org: west}\n")
    said = desk.up()
    assert "the server knows of hospital-4" in said
    assert "4 sites have registered" in said
    after = {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()}
    assert after.keys() - before.keys() == {"hospital-4-0"}
    assert {name: after[name] for name in before} == before
    project.write_text(was)
    said = desk.up()
    assert "the server knows of who is who" in said
    assert "removes StatefulSet hospital-4" in said
    desk.kubectl("wait", "--for=delete", "pod/hospital-4-0", "--timeout=60s")
    assert {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()} == before
    assert "hospital-4" not in {site["name"] for site in json.loads(desk.convoy("site", "list", "--json"))}


def test_what_was_down_goes_on_with_its_volumes(desk, undisturbed):
    said = desk.convoy("kube", "down")
    assert "volumes stay" in said
    assert desk.pods() == {}
    assert "3 sites have registered" in desk.up()
    jobs = json.loads(desk.convoy("job", "list", "--json"))
    assert "calm" in {job["name"] for job in jobs}


def test_an_image_that_is_not_there_is_said_in_words(desk):
    out = subprocess.run(
        [sys.executable, "-m", "convoy.cli.main", "kube", "up", "--image", "localhost/none:1", "--patience", "10s"],
        cwd=desk.folder,
        env=desk.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 3, out.stderr
    assert "its image cannot be pulled" in out.stderr
    desk.up()
