"""The cluster of the tests on a real Kubernetes, a federation in it, and the way to their neighbours.

On root's Debian 12 or 13 the cluster is made here. Elsewhere: KUBECONFIG and CONVOY_TEST_IMAGE, an image
that the cluster's nodes have or can pull.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kube.workplaces import HERE, NAMESPACE, Workplace, debian

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
LOG = Path(os.environ.get("CONVOY_KUBE_CACHE") or CACHE / "convoy-kube") / "build.log"
ASKED_S, EACH_S = 5.0, 60.0  # until a build is told of, and between two words about it


def binaries(tell):
    """Return the folder of a Kubernetes' binaries; a build takes long, so it says every minute that it goes on."""
    begun, patience = time.monotonic(), ASKED_S
    with subprocess.Popen(["sh", HERE / "binaries.sh"], stdout=subprocess.PIPE, text=True) as process:
        while True:
            try:
                said, _ = process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                minutes = (time.monotonic() - begun) / 60
                if patience == ASKED_S:
                    tell("building a Kubernetes from Debian's sources: 10 to 25 minutes, once a machine")
                newest = LOG.read_text(errors="replace").splitlines()[-1:] if LOG.exists() else []
                tell(f"still building after {minutes:.0f} min: {''.join(newest)[:100]}  ({LOG})")
                patience = EACH_S
                continue
            if process.returncode:
                tell(f"the build failed: {LOG}")
                raise subprocess.CalledProcessError(process.returncode, process.args)
            return said.strip()


@pytest.fixture(scope="module")
def tell(request):
    """Return a function that says a line on the terminal, whatever pytest and its workers capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def said(text):
        with capture.global_and_fixture_disabled():
            sys.stderr.write(f"\ntests/kube: {text}\n")
            sys.stderr.flush()

    return said


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, tell):
    """The environment that leads to a cluster, and the image that its nodes have."""
    image = os.environ.get("CONVOY_TEST_IMAGE")
    if image and os.environ.get("KUBECONFIG"):
        yield dict(os.environ), image
        return
    if os.geteuid() != 0 or not debian():
        without("a Kubernetes is made here by root on Debian alone; elsewhere: KUBECONFIG and CONVOY_TEST_IMAGE")
    state = tmp_path_factory.mktemp("kube") / "cluster"
    script = [sys.executable, HERE / "local_cluster.py"]
    try:
        path, config = made(state, script, tell)
    except subprocess.CalledProcessError as problem:
        without(f"a Kubernetes cannot be made here: {problem}")
    try:
        yield os.environ | {"KUBECONFIG": config, "PATH": path}, "localhost/convoy:test"
    finally:
        subprocess.run([*script, "down", state], check=True)


def without(why):
    """Skip what needs a cluster, with the reason, or fail where it is demanded."""
    (pytest.fail if os.environ.get("CONVOY_DEMAND") == "kube" else pytest.skip)(why)


def made(state, script, tell):
    """Make a cluster; return the path with its programs, and its kubeconfig."""
    folder = binaries(tell)
    tell("making the images and starting the cluster: 1 to 3 minutes")
    subprocess.run(["sh", HERE / "images.sh", state.parent], check=True)
    images = state.parent.glob("*.img.tar")
    done = subprocess.run([*script, "up", state, *images], capture_output=True, text=True, check=False)
    if done.returncode:
        without(f"a Kubernetes cannot be made here, exit status {done.returncode}:\n{done.stderr}")
    return f"{folder}:{os.environ['PATH']}", done.stdout.strip()


@pytest.fixture(scope="module")
def workplace(cluster, tmp_path_factory):
    """A federation that is up, and in the end gone."""
    made = Workplace(*cluster, tmp_path_factory.mktemp("workplace"))
    said = made.up()
    assert "3 sites have registered" in said
    yield made
    made.convoy("kube", "down", "--volumes")
    kinds = "all,configmaps,secrets,pvc,networkpolicies,roles,rolebindings,serviceaccounts"
    left = json.loads(made.kubectl("get", kinds, "--output=json"))["items"]
    assert left == []
    spaces = json.loads(made.kubectl("get", "namespaces", "--output=json"))["items"]
    assert NAMESPACE not in {space["metadata"]["name"] for space in spaces}


@pytest.fixture(scope="module")
def undisturbed(workplace):
    """The model of the job when nothing happens."""
    job = workplace.job("calm", 0)
    assert [rounds for rounds, _ in workplace.watch(job)][-1] == 4
    return workplace.model(job)
