"""What a pod finds in its kit: convoy.yaml and local/ from people's files, secrets and root from provisioning."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from convoy.kube.naming import WORKER, Place, slug
from convoy.kube.options import Node, Track
from convoy.provision import kits, sample
from convoy.spec import units, yamls
from convoy.spec.pods import Pods
from convoy.spec.project import Participant, Server

KIT: Final = "/kit"
STATE: Final = "/var/lib/convoy"
DATA: Final = "/data"
SHARED: Final = "convoy-kits"  # the claim of `kits: volume`
HEALTH_PORT: Final = 8004
AGENT: Final = 128 << 20  # bytes of a site's memory that its jobs cannot have: the site itself
# What a running node reads again by itself, or hears from its server: a change of it restarts nothing.
_LIVE: Final = frozenset({"policy.yaml", "approved.yaml", "federation.json", "invites.json", "join.token"})


@dataclass(frozen=True, slots=True)
class Contents:
    """What lies in a participant's kit: `local` by file name, `startup` as provisioning made it (empty: not known)."""

    local: Mapping[str, str] = field(default_factory=dict)
    startup: Mapping[str, bytes] = field(default_factory=dict)


def config_map(place: Place, participant: Participant, contents: Contents) -> dict[str, Any]:
    """Return the ConfigMap of a participant: convoy.yaml, and local/ as its owner wrote it."""
    server = isinstance(participant, Server)
    chosen: Participant = place.server if server else participant
    kind = kits.kind_of(participant)
    local = {"node.yaml": sample.node(kind), **({} if server else {"policy.yaml": sample.POLICY}), **contents.local}
    local["node.yaml"] = _at_home(local["node.yaml"], place, participant)
    data = {"convoy.yaml": kits.description(place.inside, chosen, kind), **local}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": place.meta(slug(participant.name), place.namespace_of(participant), place.labels(participant)),
        "data": data,
    }


def secret(place: Place, participant: Participant, contents: Contents) -> dict[str, Any] | None:
    """Return the Secret of a participant: what provisioning made for it alone; None where that is not known."""
    if not contents.startup or place.options.kits == "volume":
        return None
    name = f"{slug(participant.name)}-kit"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": place.meta(name, place.namespace_of(participant), place.labels(participant)),
        "type": "Opaque",
        "data": {name: base64.b64encode(data).decode() for name, data in contents.startup.items()},
    }


def volumes(place: Place, participant: Participant, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the two volumes of a kit; nobody else's is in them. Only our group may read what they hold.

    With `kits: volume`, the first holds every kit, and a node mounts its own folder of it.
    """
    name = slug(participant.name)
    local = [{"key": key, "path": key} for key in sorted(config["data"]) if key != "convoy.yaml"]
    startup = [
        {"configMap": {"name": name, "items": [{"key": "convoy.yaml", "path": "convoy.yaml"}]}},
        {"secret": {"name": f"{name}-kit"}},
    ]
    first: dict[str, Any] = {"projected": {"defaultMode": 0o440, "sources": startup}}
    if place.options.kits == "volume":
        first = {"persistentVolumeClaim": {"claimName": SHARED}}
    return [
        {"name": "startup", **first},
        {"name": "local", "configMap": {"name": name, "defaultMode": 0o440, "items": local}},
    ]


def digests(config: Mapping[str, Any], contents: Contents) -> dict[str, str]:
    """Return annotations of a pod that change, and so restart it, when what it reads only at its start changes."""
    said = {"convoy/config": _digest({key: value for key, value in config["data"].items() if key not in _LIVE})}
    if contents.startup:
        kept = {key: value.hex() for key, value in contents.startup.items() if key not in _LIVE}
        said["convoy/kit"] = _digest(kept)
    return said


def _at_home(text: str, place: Place, participant: Participant) -> str:
    """Return node.yaml for a pod: state on its volume, health for the kubelet, no more for jobs than their pod has."""
    said, node = yamls.load(text, name="node.yaml").mapping(), place.node(participant)
    if node.launcher == "kubernetes":
        said["launcher"] = "kubernetes"
        said["pods"] = _pods(place, participant, node)
    if isinstance(participant, Server):
        if place.options.track is not None:
            said.setdefault("track", _trackers(place.options.track))
    else:
        for name, most in _most(node).items():
            said.setdefault(name, most)
        if node.data:
            said["data"] = {**(said.get("data") or {}), **{name: f"{DATA}/{name}" for name in node.data}}
    said |= {"workspace": f"{STATE}/work", "health_host": "::", "health_port": HEALTH_PORT}
    return "# As `convoy kube` completed the owner's local/node.yaml for a pod.\n" + yaml.safe_dump(said)


def _trackers(track: Track) -> dict[str, str]:
    """Return `track` of node.yaml: a folder of TensorBoard is on the server's volume, where a pod can write."""
    named = track.model_dump(exclude_defaults=True)
    return named | ({"tensorboard": f"{STATE}/{track.tensorboard}"} if track.tensorboard else {})


def _most(node: Node) -> dict[str, float]:
    """Return what a site's jobs may take together: what their pod has, or one of the pods that are made for them."""
    if node.launcher == "kubernetes":
        jobs = node.jobs
        memory = units.size_bytes(jobs.memory_limit)
        return {"cpu": _cores(jobs.cpu_limit), "memory": memory, "gpu": jobs.gpu}
    limit = units.size_bytes(node.memory_limit)
    return {"cpu": _cores(node.cpu_limit), "memory": max(limit - AGENT, limit // 2), "gpu": node.gpu}


def _pods(place: Place, participant: Participant, node: Node) -> dict[str, Any]:
    """Return `pods` of node.yaml: what was chosen, the federation's image, and the labels that policies know."""
    chosen = Pods(
        **node.jobs.model_dump(exclude={"image"}),
        image=node.jobs.image or node.image or place.options.image,
        image_pull_policy=place.options.image_pull_policy,
        data=node.data,
        labels=place.workers(participant),
        service_account=WORKER,
    )
    return chosen.model_dump(mode="json", exclude_defaults=True)


def _cores(quantity: str) -> float:
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def _digest(data: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
