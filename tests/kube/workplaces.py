"""A person's folder with a project in it, and a cluster to run it in, for the tests on a real Kubernetes."""

import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.kube.federations import DEMO

HERE = Path(__file__).parent
NAMESPACE = "breast-cancer"
TRAIN = '''
"""Adds to every weight a number that depends on the round and the site alone, and takes its time."""
import threading
from pathlib import Path
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(100_000, np.float32)}


@convoy.train
def train(task):
    threading.Event().wait(task.config["seconds"])  # the cluster's own processes have the processors meanwhile
    Path("artifacts").mkdir(exist_ok=True)
    Path("artifacts/round.txt").write_text(f"{task.round} at {task.site}")
    dice = np.random.default_rng([task.round, sum(map(ord, task.site))])
    w = task.model["w"] + dice.standard_normal(len(task.model["w"]), dtype=np.float32)
    return convoy.Reply({"w": w}, weight=1 + len(task.site), metrics={"mean": float(w.mean())})
'''
JOB = """
name: {name}
workflow: fedavg
with: {{rounds: 4, min_sites: {at_least}}}
trainer: train.py
model: train.py:initial
config: {{seconds: {seconds}}}
patience: 2m
"""


def debian():
    release = platform.freedesktop_os_release() if sys.platform == "linux" else {}
    return release.get("ID") == "debian" and release.get("VERSION_ID") in ("12", "13")


class Workplace:
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

    def typing(self, *words):
        """Begin a command whose lines are read while it runs."""
        command = [sys.executable, "-m", "convoy.cli.main", *words]
        return subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, text=True)

    def up(self, values=""):
        """Bring the federation up; with what is to be different, as YAML."""
        (self.folder / "values.yml").write_text(values)
        said = ("--values", "values.yml") if values else ()
        return self.convoy("kube", "up", "--image", self.image, *said, "--patience", "2m")

    def kubectl(self, *words, code=0):
        command = ["kubectl", "--namespace", NAMESPACE, *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def gone(self, *what):
        """Wait until none of these is there; `kubectl wait` of 1.20 fails if none is there at first."""
        command = ["kubectl", "--namespace", NAMESPACE, "wait", "--for=delete", *what, "--timeout=60s"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or "no matching resources found" in done.stderr, done.stdout + done.stderr
        assert not self.kubectl("get", *what, "--output=name")

    def pods(self):
        """Return the pods by name, without those that go."""
        found = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def job(self, name, seconds, more="", *, at_least=3):
        folder = self.folder / name
        folder.mkdir()
        (folder / "train.py").write_text(TRAIN)
        (folder / "job.yaml").write_text(JOB.format(name=name, seconds=seconds, at_least=at_least) + more)
        return json.loads(self.convoy("job", "submit", folder, "--json"))["id"]

    def seen(self, job):
        """Yield the job as a watch tells it."""
        with self.typing("job", "watch", job, "--json") as process:
            for line in process.stdout:
                yield json.loads(line)["job"]

    def watch(self, job):
        """Yield the round that a job is in, and when that was told; it is to complete."""
        for seen in self.seen(job):
            yield seen["round"], time.monotonic()
        assert seen["state"] == "completed", seen

    def disturbed(self, job, disturb):
        """Do something in the middle of a job; return the last round, and the seconds to the end of the next one."""
        done, resumed, at, last = 0.0, 0.0, 0, 0
        for rounds, told in self.watch(job):
            if rounds and not done:
                disturb()
                done, at = time.monotonic(), rounds
            elif done and rounds > at and not resumed:
                resumed = told
            last = rounds
        assert at in (1, 2), "the job was over before anything was done to it"
        return last, round(resumed - done, 1)

    def model(self, job):
        self.convoy("job", "fetch", job, "-o", self.folder / "results" / job)
        return (self.folder / "results" / job / "model.safetensors").read_bytes()
