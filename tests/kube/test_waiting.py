"""What is waited for, in words: from pods and events as a cluster tells them."""

import pytest

from convoy.kube.waiting import READY, Seen, deaths
from convoy.pods.trouble import of_pod


def pod(*, revision="new", uid="1", **status):
    meta = {"namespace": "n", "name": "a-0", "uid": uid, "labels": {"controller-revision-hash": revision}}
    return {"kind": "Pod", "metadata": meta, "status": status}


def condition(kind, status, message=""):
    return {"type": kind, "status": status, "message": message}


def container(**state):
    return {"restartCount": 3, "image": "i:1", "state": state}


def made(component="site", observed=1):
    labels = {"app.kubernetes.io/component": component}
    meta = {"namespace": "n", "name": "a", "generation": 1, "labels": labels}
    return {
        "kind": "StatefulSet",
        "metadata": meta,
        "status": {"observedGeneration": observed, "updateRevision": "new"},
    }


def seen(*told):
    it = Seen()
    for one in told:
        it.take(one.get("kind", ""), "ADDED", one)
    return it


SCHEDULED = condition("PodScheduled", "True")
PULL = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "i:1"'}
CRASH = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 4}


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ({}, "waits for a node and its volume"),
        (
            {"conditions": [condition("PodScheduled", "False", "0/2 nodes are available: 2 Insufficient memory.")]},
            "no node has enough memory: 0/2 nodes are available: 2 Insufficient memory.",
        ),
        (
            {"conditions": [condition("PodScheduled", "False", "pod has unbound immediate PersistentVolumeClaims")]},
            "its volume is not bound: is there a default StorageClass?",
        ),
        (
            {"conditions": [condition("PodScheduled", "False", "2 node(s) had taint {gpu: }")]},
            "no node takes it: 2 node(s) had taint {gpu: }",
        ),
        ({"conditions": [SCHEDULED]}, "on its node, mounting volumes"),
        ({"conditions": [SCHEDULED], "containerStatuses": [container(waiting=PULL)]}, "its image cannot be pulled: "),
        (
            {
                "containerStatuses": [
                    container(waiting={"reason": "CreateContainerConfigError", "message": "no secret"})
                ]
            },
            "its container cannot be made: no secret",
        ),
        ({"containerStatuses": [container(waiting={"reason": "ContainerCreating"})]}, "its container is being made"),
        (
            {"containerStatuses": [container(terminated={"exitCode": 137, "reason": "OOMKilled"})]},
            "ended: out of memory (its limit is too low)",
        ),
        (
            {"containerStatuses": [CRASH | {"lastState": {"terminated": {"exitCode": 4}}}]},
            "died, and is to be started again: exit status 4",
        ),
        ({"containerStatuses": [container(running={}) | {"started": False}]}, "starts"),
        ({"containerStatuses": [container(running={}) | {"started": True}]}, ""),
    ],
)
def test_each_state_of_a_pod_has_its_words(status, wanted):
    assert of_pod(pod(**status)).startswith(wanted)
    assert bool(of_pod(pod(**status))) == bool(wanted)


READY_STATUS = {"conditions": [SCHEDULED, condition("Ready", "True")]}


@pytest.mark.parametrize(("component", "word"), [("server", "ready"), ("site", "registered")])
def test_a_ready_pod_of_the_newest_kind_is_what_was_asked_for(component, word):
    assert seen(made(component), pod(**READY_STATUS)).state("n", "a") == word
    assert word in READY


def test_a_ready_pod_of_an_older_kind_is_to_be_replaced():
    told = seen(made(), pod(revision="old", **READY_STATUS))
    assert told.state("n", "a") == "its old pod will be replaced"
    assert told.stuck("n", "a") is None, "the cluster does that by itself"


def test_an_old_pod_that_is_not_ready_stands_in_the_way_of_the_new_one():
    told = seen(made(), pod(revision="old", conditions=[SCHEDULED]))
    assert told.stuck("n", "a")["metadata"]["uid"] == "1"
    assert seen(made(), pod(conditions=[SCHEDULED])).stuck("n", "a") is None


def test_a_set_that_the_cluster_has_not_looked_at_yet_is_not_judged():
    assert seen(made(observed=0), pod(**READY_STATUS)).state("n", "a") == "its pod is new"
    assert seen().state("n", "a") == "not made yet"
    assert seen(made()).state("n", "a") == "its pod is not made yet"


def test_a_warning_is_quoted_for_the_pod_that_it_is_about_alone():
    about = {"kind": "Pod", "namespace": "n", "name": "a-0", "uid": "1"}
    event = {"kind": "Event", "type": "Warning", "involvedObject": about, "message": "MountVolume.SetUp failed"}
    mounting = {"conditions": [SCHEDULED]}
    assert "MountVolume.SetUp failed" in seen(made(), pod(**mounting), event).state("n", "a")
    assert "MountVolume" not in seen(made(), pod(uid="2", **mounting), event).state("n", "a")


def test_what_is_removed_is_forgotten():
    told = seen(made(), pod(**READY_STATUS))
    told.take("Pod", "DELETED", pod())
    assert told.state("n", "a") == "its pod is not made yet"


def test_deaths_count_where_the_cluster_waits_before_it_tries_again():
    assert deaths(pod(containerStatuses=[CRASH])) == 4
    assert deaths(pod(containerStatuses=[container(running={})])) == 0
