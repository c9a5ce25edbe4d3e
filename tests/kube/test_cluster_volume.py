"""All kits on one volume, on a real Kubernetes: filled once, a folder for each node, the same model; and back."""

import json

import pytest

pytestmark = [pytest.mark.kube, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def one_volume(desk):
    """The federation with its kits on one volume, and in the end in Secrets again."""
    said = desk.up("kits: volume")
    assert "3 sites have registered" in said
    yield desk
    desk.up()
    assert "hospital-1-kit" in desk.kubectl("get", "secrets")


def test_no_kit_is_in_a_secret_and_each_node_sees_its_own_alone(one_volume):
    secrets = json.loads(one_volume.kubectl("get", "secrets", "--output=json"))["items"]
    assert not [it for it in secrets if it["metadata"]["name"].endswith("-kit")]
    seen = one_volume.kubectl("exec", "hospital-1-0", "--", "ls", "/kit/startup").split()
    assert "root.crt" in seen
    assert "issuing.key" not in seen
    assert "issuing.key" in one_volume.kubectl("exec", "server-0", "--", "ls", "/kit/startup").split()


def test_twice_is_once(one_volume):
    before = {name: pod["metadata"]["uid"] for name, pod in one_volume.pods().items()}
    assert " made" not in one_volume.up("kits: volume")
    assert {name: pod["metadata"]["uid"] for name, pod in one_volume.pods().items()} == before


def test_a_job_makes_the_same_model(one_volume, undisturbed):
    job = one_volume.job("on-a-volume", 0)
    assert [rounds for rounds, _ in one_volume.watch(job)][-1] == 4
    assert one_volume.model(job) == undisturbed
