"""The Job and the Secret of one worker as Kubernetes objects, from the job's resources and the node's settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from convoy.node.launcher import Wants
from convoy.pods import runner
from convoy.spec.pods import UID, Pods

LAUNCH: Final = "convoy/launch"  # the label of a worker's pod: the name of its Job
LAUNCHER: Final = "convoy/launcher"  # and of everything that one node has launched
DATA: Final = "/data"  # where a worker finds the data of its site
KEEP_S: Final = 600  # to inspect a pod that has ended; a running node removes it at once
GRACE_S: Final = 5  # a worker has no data that its node does not have
LONGEST_S: Final = 86400.0  # a pod that lost its node ends by itself; this limit removes it if it does not
LONG: Final = 100  # times its job's patience

POD_SECURITY: Final = {  # of every pod: what the standard "restricted" demands, and a user that no machine has
    "runAsNonRoot": True,
    "runAsUser": UID,
    "runAsGroup": UID,
    "fsGroup": UID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Home:
    """The pod of the node that launches: its workers' pods belong to it, and are removed with it."""

    name: str
    uid: str
    address: str  # HOST:PORT at which its pods find it
    owner: str  # the participant, as a label

    @property
    def labels(self) -> dict[str, str]:
        """The label of everything that it launches."""
        return {LAUNCHER: self.owner}


def secret(name: str, home: Home, credential: Mapping[str, bytes]) -> Object:
    """Return the Secret with a worker's credential, which is valid once, for an hour."""
    text = {key: value.decode() for key, value in credential.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta(name, home, {}),
        "type": "Opaque",
        "stringData": text,
    }


def job(name: str, home: Home, pods: Pods, wants: Wants) -> Object:
    """Return the Job of a worker: one pod, which is not started again; its node makes another with a new credential."""
    labels = {**pods.labels, LAUNCH: name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _meta(name, home, labels),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": math.ceil(max(LONGEST_S, LONG * wants.patience_s)),
            "ttlSecondsAfterFinished": KEEP_S,
            "template": {"metadata": {"labels": {**labels, **home.labels}}, "spec": _pod(name, home, pods, wants)},
        },
    }


def mounted(pods: Pods) -> dict[str, str]:
    """Return the path at which a worker finds each of the site's data."""
    return {name: f"{DATA}/{name}" for name in pods.data}


def _meta(name: str, home: Home, labels: Mapping[str, str]) -> Object:
    mine = [owner("v1", "Pod", home.name, home.uid)]
    return {"name": name, "labels": {**labels, **home.labels}, "ownerReferences": mine}


def owner(version: str, kind: str, name: str, uid: str) -> Object:
    """Return the reference to the owner of an object, with which it is removed."""
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": False}


def _pod(name: str, home: Home, pods: Pods, wants: Wants) -> Object:
    data = [
        {"name": f"data-{at}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        for at, claim in enumerate(pods.data.values())
    ]
    spec: Object = {
        "serviceAccountName": pods.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": dict(POD_SECURITY),
        "containers": [_container(home, pods, wants)],
        "volumes": [
            {"name": "pass", "secret": {"secretName": name, "defaultMode": 0o440}},
            {"name": "work", "emptyDir": {"sizeLimit": pods.scratch}},
            {"name": "tmp", "emptyDir": {"sizeLimit": pods.scratch}},
            *data,
        ],
    }
    if pods.node_selector:
        spec["nodeSelector"] = dict(pods.node_selector)
    if pods.tolerations:
        spec["tolerations"] = list(pods.tolerations)
    return spec


def _container(home: Home, pods: Pods, wants: Wants) -> Object:
    return {
        "name": "worker",
        "image": wants.image or pods.image,
        "imagePullPolicy": pods.image_pull_policy,
        "command": ["python3", "-m", "convoy.pods.runner"],
        "env": [{"name": runner.NODE, "value": home.address}, {"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "resources": _resources(pods, wants),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [
            {"name": "pass", "mountPath": str(runner.PASS), "readOnly": True},
            {"name": "work", "mountPath": str(runner.WORK)},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own, and nobody else's
            *(
                {"name": f"data-{at}", "mountPath": place, "readOnly": True}
                for at, place in enumerate(mounted(pods).values())
            ),
        ],
    }


def _resources(pods: Pods, wants: Wants) -> Object:
    """Return the requests and limits of a pod; what the job reserves is both."""
    cpu, memory, gpu = f"{wants.cpu:g}", str(wants.memory), math.ceil(wants.gpu) or pods.gpu
    devices = {"nvidia.com/gpu": str(gpu)} if gpu else {}  # whole ones: Kubernetes has no fractions
    return {
        "requests": {"cpu": cpu if wants.cpu else pods.cpu, "memory": memory if wants.memory else pods.memory},
        "limits": {
            "cpu": cpu if wants.cpu else pods.cpu_limit,
            "memory": memory if wants.memory else pods.memory_limit,
            **devices,
        },
    }
