"""The cluster of the tests on a real Kubernetes, a federation in it, and the way to their neighbours.

On root's Debian 12 or 13 the cluster is made here. Elsewhere: KUBECONFIG and CONVOY_TEST_IMAGE, an image
that the cluster's nodes have or can pull.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from desks import HERE, NAMESPACE, Desk, debian


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
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
        path, config = made(state, script)
    except subprocess.CalledProcessError as problem:
        without(f"a Kubernetes cannot be made here: {problem}")
    try:
        yield os.environ | {"KUBECONFIG": config, "PATH": path}, "localhost/convoy:test"
    finally:
        subprocess.run([*script, "down", state], check=True)


def without(why):
    """Skip what needs a cluster, with the reason, or fail where it is demanded."""
    (pytest.fail if os.environ.get("CONVOY_DEMAND") == "kube" else pytest.skip)(why)


def made(state, script):
    """Make a cluster; return the path with its programs, and its kubeconfig."""
    run = functools.partial(subprocess.run, check=True, stdout=subprocess.PIPE, text=True)
    binaries = run(["sh", HERE / "binaries.sh"]).stdout.strip()
    run(["sh", HERE / "images.sh", state.parent])
    done = run([*script, "up", state, *state.parent.glob("*.img.tar")])
    return f"{binaries}:{os.environ['PATH']}", done.stdout.strip()


@pytest.fixture(scope="module")
def desk(cluster, tmp_path_factory):
    """A federation that is up, and in the end gone."""
    made = Desk(*cluster, tmp_path_factory.mktemp("desk"))
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
def undisturbed(desk):
    """The model of the job when nothing happens."""
    job = desk.job("calm", 0)
    assert [rounds for rounds, _ in desk.watch(job)][-1] == 4
    return desk.model(job)
