"""What a federation in a cluster is waiting for, in words: from pods, sets and events, with no cluster at hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from convoy.kube.naming import COMPONENT

Object = Mapping[str, Any]
READY: Final = frozenset({"ready", "registered"})  # what a server is in the end, and a site
_IMAGE: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_DIES: Final = "CrashLoopBackOff"
_LACKS: Final = re.compile(r"Insufficient ([\w./-]*\w)")
_LAST: Final = 200  # characters of a message that is quoted


@dataclass(slots=True)
class Seen:
    """What the cluster has said so far: sets and pods by namespace and name, warnings by what they are about."""

    sets: dict[tuple[str, str], Object] = field(default_factory=dict)
    pods: dict[tuple[str, str], Object] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)  # by the uid of a pod, else by namespace/name

    def take(self, kind: str, what: str, it: Object) -> None:
        """Note a change that a watch told."""
        if kind == "Event":
            about = it.get("involvedObject", {})
            if it.get("type") == "Warning" and about.get("kind") in ("Pod", "PersistentVolumeClaim", "StatefulSet"):
                pod = about["kind"] == "Pod"  # a new one of the same name has not got its predecessor's troubles
                key = about.get("uid", "") if pod else f"{about.get('namespace', '')}/{about.get('name', '')}"
                self.trouble[key] = _short(it.get("message", ""))
            return
        held = self.sets if kind == "StatefulSet" else self.pods
        place = (it["metadata"]["namespace"], it["metadata"]["name"])
        if what == "DELETED":
            held.pop(place, None)
        else:
            held[place] = it

    def state(self, namespace: str, name: str) -> str:
        """Return how the node of a StatefulSet is, in a few words; one of `READY` once it is what was asked for."""
        made = self.sets.get((namespace, name))
        pod = self.pods.get((namespace, f"{name}-0"))
        if made is None:
            return "not made yet"
        if pod is None:
            return self.trouble.get(f"{namespace}/{name}", "its pod is not made yet")
        if pod["metadata"].get("deletionTimestamp"):
            return "its old pod drains"
        status = made.get("status", {})
        fresh = status.get("observedGeneration", 0) >= made["metadata"].get("generation", 0)
        revision = pod["metadata"].get("labels", {}).get("controller-revision-hash")
        ready = "ready" if made["metadata"].get("labels", {}).get(COMPONENT) == "server" else "registered"
        if not fresh or revision != status.get("updateRevision"):
            return "its old pod is to be replaced" if status.get("observedGeneration", 0) else "its pod is new"
        if _condition(pod, "Ready").get("status") == "True":
            return ready
        claim = self.trouble.get(f"{namespace}/state-{name}-0", "")
        trouble = self.trouble.get(pod["metadata"].get("uid", ""), "") or claim
        return of_pod(pod, trouble) or f"runs, and is not {ready} yet"

    def stuck(self, namespace: str, name: str) -> Object | None:
        """Return the pod of a node that is to be replaced and is not ready: a StatefulSet waits for it, for ever."""
        made, pod = self.sets.get((namespace, name), {}), self.pods.get((namespace, f"{name}-0"))
        if pod is None or pod["metadata"].get("deletionTimestamp") or _condition(pod, "Ready").get("status") == "True":
            return None
        status = made.get("status", {})
        fresh = status.get("observedGeneration", 0) >= made.get("metadata", {}).get("generation", 1)
        revision = pod["metadata"].get("labels", {}).get("controller-revision-hash")
        return pod if fresh and revision != status.get("updateRevision") else None


def deaths(pod: Object) -> int:
    """Return how often a pod's container has died, where the cluster now waits before it starts it again."""
    statuses: Iterable[Object] = pod.get("status", {}).get("containerStatuses") or []
    waiting = [one for one in statuses if one.get("state", {}).get("waiting", {}).get("reason") == _DIES]
    return max((int(one.get("restartCount", 0)) for one in waiting), default=0)


def of_pod(pod: Object, trouble: str = "") -> str:
    """Return what a pod waits for before it runs, "" once it does; `trouble`: the last warning of it or its claim."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _unscheduled(str(scheduled.get("message", "")))
    statuses = pod.get("status", {}).get("containerStatuses") or []
    if not statuses:
        if scheduled.get("status") == "True":
            return f"on its node, mounting volumes{f': {trouble}' if trouble else ''}"
        return f"waits for a node and its volume{f': {trouble}' if trouble else ''}"
    for status in statuses:
        if waiting := status.get("state", {}).get("waiting"):
            return _waiting(status, waiting, trouble)
        if ended := status.get("state", {}).get("terminated"):
            return f"ended: {_end(ended)}"
    return "" if statuses[0].get("started", True) else "starts"


def _unscheduled(message: str) -> str:
    if "unbound" in message and "persistentvolumeclaim" in message.lower():
        return f"its volume is not bound: is there a default StorageClass? ({_short(message)})"
    if "Insufficient" in message:
        lacks = " and ".join(sorted(set(_LACKS.findall(message))))
        return f"no node has enough {lacks}: {_short(message)}"
    return f"no node takes it: {_short(message)}" if message else "waits for a node"


def _waiting(status: Object, waiting: Object, trouble: str) -> str:
    reason, message = waiting.get("reason", ""), _short(waiting.get("message") or trouble)
    if reason in _IMAGE:
        return f"its image cannot be pulled: {message or status.get('image', '')}"
    if reason == _DIES:
        return f"died, and is to be started again: {_end(status.get('lastState', {}).get('terminated', {}))}"
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return f"its container cannot be made: {message}"
    return f"its container is being made{f': {trouble}' if trouble else ''}"


def _end(ended: Object) -> str:
    if ended.get("reason") == "OOMKilled":
        return "out of memory (raise memory_limit in values.yml)"
    return f"exit status {ended.get('exitCode', '?')}"


def _condition(pod: Object, kind: str) -> Object:
    found: Iterable[Object] = pod.get("status", {}).get("conditions") or []
    return next((one for one in found if one.get("type") == kind), {})


def _short(message: str) -> str:
    plain = " ".join(message.split())
    return plain if len(plain) <= _LAST else plain[: _LAST - 1] + "…"
