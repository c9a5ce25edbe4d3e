"""The pod of a node: one container that may do nothing but its work, its volume, its probes, its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.kube import shared
from convoy.kube.contents import DATA, HEALTH_PORT, KIT, STATE, Contents, digests, volumes
from convoy.kube.naming import Place, slug
from convoy.kube.options import Node
from convoy.pods.api import ACCOUNT
from convoy.pods.objects import CONTAINER_SECURITY, POD_SECURITY
from convoy.spec.pods import WORKERS_PORT
from convoy.spec.project import Participant, Server

GRACE_S: Final = 45  # a node drains within 30 s
PROBE_S: Final = 2  # between looks at readiness; a node that is not ready answers as soon as it is, or after this time
START_S: Final = 120  # for a node to say that it lives: a cold image on a busy machine


def stateful_set(
    place: Place, participant: Participant, config: Mapping[str, Any], contents: Contents
) -> dict[str, Any]:
    """Return the StatefulSet of a node: one pod, and a claim of its own that outlives it."""
    name, labels, node = slug(participant.name), place.labels(participant), place.node(participant)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": place.meta(name, place.namespace_of(participant), labels),
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": {**labels, **shared.labels(place)}, "annotations": digests(config, contents)},
                "spec": _pod(place, participant, node, config),
            },
            "volumeClaimTemplates": [_claim(place, labels, node)],
        },
    }


def _pod(place: Place, participant: Participant, node: Node, config: Mapping[str, Any]) -> dict[str, Any]:
    launches = node.launcher == "kubernetes"  # then data is mounted where jobs run, and not here
    data = [
        {"name": f"data-{slug(name)}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        for name, claim in sorted(node.data.items())
        if not launches
    ]
    spec: dict[str, Any] = {
        "serviceAccountName": slug(participant.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": dict(POD_SECURITY),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": place.nodes(),
            }
        ],
        "containers": [_container(place, participant, node)],
        "volumes": [
            *volumes(place, participant, config),
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            *([_account()] if launches else []),
            *data,
        ],
    }
    spec |= shared.affinity(place)
    if node.node_selector:
        spec["nodeSelector"] = dict(node.node_selector)
    if node.tolerations:
        spec["tolerations"] = list(node.tolerations)
    return spec


def _container(place: Place, participant: Participant, node: Node) -> dict[str, Any]:
    server = isinstance(participant, Server)
    ports = [{"name": "health", "containerPort": HEALTH_PORT}]
    if server:
        sites, people = place.project.server.fed_learn_port, place.project.server.admin_port
        ports = [{"name": "sites", "containerPort": sites}, {"name": "people", "containerPort": people}, *ports]
    own = {"subPath": slug(participant.name)} if place.options.kits == "volume" else {}
    gpu = {"nvidia.com/gpu": str(node.gpu)} if node.gpu else {}
    launches = node.launcher == "kubernetes"
    if launches:
        ports.append({"name": "workers", "containerPort": WORKERS_PORT})
    return {
        "name": "server" if server else "site",
        "image": node.image or place.options.image,
        "imagePullPolicy": place.options.image_pull_policy,
        "command": ["convoy", "run", KIT],
        "env": [{"name": "HOME", "value": "/tmp"}, *(_self(participant) if launches else [])],  # noqa: S108 - its own
        "ports": ports,
        "resources": {
            "requests": {"cpu": node.cpu, "memory": node.memory},
            "limits": {"cpu": node.cpu_limit, "memory": node.memory_limit, **gpu},
        },
        "securityContext": dict(CONTAINER_SECURITY),
        "startupProbe": {**_asks("/livez"), "periodSeconds": 1, "failureThreshold": START_S},
        "livenessProbe": {**_asks("/livez"), "periodSeconds": 10, "failureThreshold": 6},
        "readinessProbe": {**_asks(f"/readyz?within={PROBE_S}"), "periodSeconds": PROBE_S, "failureThreshold": 2},
        "volumeMounts": [
            {"name": "startup", "mountPath": f"{KIT}/startup", "readOnly": True, **own},
            {"name": "local", "mountPath": f"{KIT}/local", "readOnly": True},
            {"name": "state", "mountPath": STATE},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *([{"name": "cluster", "mountPath": str(ACCOUNT), "readOnly": True}] if launches else []),
            *(
                {"name": f"data-{slug(name)}", "mountPath": f"{DATA}/{name}", "readOnly": True}
                for name in sorted(node.data)
                if not launches
            ),
        ],
    }


def _self(participant: Participant) -> list[dict[str, Any]]:
    """Return what a pod must know of itself to make others that belong to it."""
    said = {"POD_NAME": "metadata.name", "POD_UID": "metadata.uid", "POD_IP": "status.podIP"}
    known = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in said.items()]
    return [*known, {"name": "CONVOY_OWNER", "value": slug(participant.name)}]


def _account() -> dict[str, Any]:
    """Return the volume by which a pod may ask the cluster: a token of an hour that the kubelet renews."""
    root = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": root},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": "cluster", "projected": {"sources": sources}}


def _asks(path: str) -> dict[str, Any]:
    """Return a probe of the node's health page; that a site is registered is readiness, never liveness."""
    return {"httpGet": {"path": path, "port": "health"}, "timeoutSeconds": 5}


def _claim(place: Place, labels: Mapping[str, str], node: Node) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "accessModes": [place.options.access_mode],
        "resources": {"requests": {"storage": node.storage}},
    }
    if place.options.storage_class:
        spec["storageClassName"] = place.options.storage_class
    return {"metadata": {"name": "state", "labels": dict(labels)}, "spec": spec}
