"""The Job of a worker: what its job asks for, no key of anybody, no word with the cluster, gone with its node."""

import json

import pytest

from convoy.node.launcher import Wants
from convoy.pods.objects import Home, job, secret
from convoy.spec.pods import Pods

HOME = Home("hospital-1-0", "1-2-3", "10.0.0.7:8005", "hospital-1")


def container(**more):
    pods = Pods(image="usual", gpu=1, data={"scans": "claim"}, labels={"a": "b"})
    (only,) = job("w", HOME, pods, Wants(**more))["spec"]["template"]["spec"]["containers"]
    return only


def test_a_worker_gets_what_its_job_asks_for_and_else_what_is_usual():
    assert container()["image"] == "usual"
    assert container()["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"},
    }
    asked = container(image="other", cpu=2.5, memory=1 << 30, gpu=1.5)
    assert asked["image"] == "other"
    both = {"cpu": "2.5", "memory": str(1 << 30)}
    assert asked["resources"] == {"requests": both, "limits": {**both, "nvidia.com/gpu": "2"}}


def test_a_worker_belongs_to_its_nodes_pod_and_is_not_started_again_by_the_cluster():
    made = job("w", HOME, Pods(image="i", labels={"a": "b"}), Wants(patience_s=7200))
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "hospital-1-0", "1-2-3")
    assert made["spec"]["backoffLimit"] == 0
    assert made["spec"]["activeDeadlineSeconds"] == 720_000
    assert made["spec"]["ttlSecondsAfterFinished"] == 600
    assert secret("w", HOME, {})["metadata"]["ownerReferences"] == [owner]


def test_a_worker_may_do_nothing_but_its_work():
    spec = job("w", HOME, Pods(image="i"), Wants())["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    (only,) = spec["containers"]
    assert only["securityContext"]["readOnlyRootFilesystem"] is True
    assert only["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {volume["name"] for volume in spec["volumes"]} == {"pass", "work", "tmp"}
    assert not any("serviceAccountToken" in json.dumps(volume) for volume in spec["volumes"])


def test_a_sites_data_is_mounted_read_only_where_jobs_find_it():
    (mount,) = [one for one in container()["volumeMounts"] if one["name"].startswith("data")]
    assert (mount["mountPath"], mount["readOnly"]) == ("/data/scans", True)


@pytest.mark.parametrize("patience_s", [1, 600])
def test_a_worker_whose_node_is_lost_ends_after_a_day_at_the_latest(patience_s):
    made = job("w", HOME, Pods(image="i"), Wants(patience_s=patience_s))
    assert made["spec"]["activeDeadlineSeconds"] == 86400
