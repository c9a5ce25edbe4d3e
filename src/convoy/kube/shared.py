"""One volume that holds every kit (`kits: volume`): its claim, who may be where, what of it a node sees; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from convoy.kube.contents import SHARED, Contents, config_map
from convoy.kube.naming import COMPONENT, Place, slug
from convoy.trust.enrolment import Invite

Object = dict[str, Any]
SIZE: Final = "64Mi"  # a kit is a few KiB; classes make no smaller volumes than they like
FOLDER: Final = "/kits"  # where the helper sees the volume
HELPER: Final = "kits"  # the component of the pod that fills it
COPIED: Final = "convoy/kits"  # annotation of the claim: by participant, a digest of what lies there; a pod's label
TOLD: Final = "convoy/told"  # and what the server was told, or found there at its start
LIFE_S: Final = 600  # of a helper whose `up` was killed


def claim(place: Place) -> Object:
    """Return the claim of the volume."""
    spec: Object = {
        "accessModes": [place.options.kits_access_mode],
        "resources": {"requests": {"storage": SIZE}},
    }
    if place.options.storage_class:
        spec["storageClassName"] = place.options.storage_class
    meta = place.meta(SHARED, place.namespace, {**place.common(), COMPONENT: HELPER})
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def labels(place: Place) -> dict[str, str]:
    """Return the label of pods that mount the volume; none where there is none."""
    return {COPIED: "volume"} if place.options.kits == "volume" else {}


def affinity(place: Place) -> Object:
    """Return what keeps all who mount the volume on one machine, if only one machine can have it."""
    if place.options.kits != "volume" or place.options.kits_access_mode != "ReadWriteOnce":
        return {}
    mounts = {"matchLabels": {**place.common(), **labels(place)}}
    beside = {"labelSelector": mounts, "topologyKey": "kubernetes.io/hostname"}
    return {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside]}}}


def selector(place: Place) -> str:
    """Return the label selector of helper pods."""
    return f"{place.chosen()},{COMPONENT}={HELPER}"


def helper(place: Place, name: str, security: tuple[Object, Object]) -> Object:
    """Return the pod that mounts the volume and waits for kits; `security`: of a pod and of its container."""
    marks = {**place.common(), **labels(place), COMPONENT: HELPER}
    container = {
        "name": "kits",
        "image": place.options.image,
        "imagePullPolicy": place.options.image_pull_policy,
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
        "securityContext": security[1],
        "volumeMounts": [{"name": "kits", "mountPath": FOLDER}],
    }
    spec = {
        "serviceAccountName": slug(place.project.server.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LIFE_S,
        "terminationGracePeriodSeconds": 0,
        "securityContext": security[0],
        "containers": [container],
        "volumes": [{"name": "kits", "persistentVolumeClaim": {"claimName": SHARED}}],
        **affinity(place),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": place.meta(name, place.namespace, marks), "spec": spec}


def kits(place: Place, found: Mapping[str, Contents]) -> dict[str, dict[str, bytes]]:
    """Return what is to lie on the volume: by folder, by file."""
    made = {}
    for one in (place.project.server, *place.project.sites):
        its = found[one.name]
        text = config_map(place, one, its)["data"]["convoy.yaml"]
        made[slug(one.name)] = {"convoy.yaml": text.encode(), **its.startup}
    return made


def digest(files: Mapping[str, bytes]) -> str:
    """Return a digest of a kit."""
    said = json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def told(federation: bytes, invites: Iterable[Invite]) -> Object:
    """Return what a server was told, in words that give nothing away."""
    known = [hashlib.sha256(one.hash.encode()).hexdigest()[:16] for one in invites]
    return {"federation": hashlib.sha256(federation).hexdigest(), "invites": sorted(known)}


def untold(known: Mapping[str, Any], federation: bytes, invites: Iterable[Invite]) -> tuple[bool, list[Invite]]:
    """Return whether who is who has changed since, and the invitations that were not told."""
    fresh = [one for one in invites if told(b"", [one])["invites"][0] not in known.get("invites", ())]
    return known.get("federation") != told(federation, ())["federation"], fresh


def noted(it: Mapping[str, Any], name: str) -> Object:
    """Return an annotation of the claim; nothing where there is none that can be read."""
    try:
        said = json.loads((it["metadata"].get("annotations") or {}).get(name, "{}"))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def note(place: Place, copied: Mapping[str, str], said: Object) -> Object:
    """Return what is noted on the claim once all is copied."""
    notes = {COPIED: json.dumps(dict(copied), sort_keys=True), TOLD: json.dumps(said)}
    meta = {"name": SHARED, "namespace": place.namespace, "annotations": notes}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta}
