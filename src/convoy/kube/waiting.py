"""What a federation in a cluster is waiting for, in words: from pods, sets and events, with no cluster at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from convoy.kube.naming import COMPONENT
from convoy.pods.trouble import DIES, condition, of_pod, short

Object = Mapping[str, Any]
READY: Final = frozenset({"ready", "registered"})  # what a server is in the end, and a site


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
                self.trouble[key] = short(it.get("message", ""))
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
            return "its old pod is draining"
        status = made.get("status", {})
        fresh = status.get("observedGeneration", 0) >= made["metadata"].get("generation", 0)
        revision = pod["metadata"].get("labels", {}).get("controller-revision-hash")
        ready = "ready" if made["metadata"].get("labels", {}).get(COMPONENT) == "server" else "registered"
        if not fresh or revision != status.get("updateRevision"):
            return "its old pod will be replaced" if status.get("observedGeneration", 0) else "its pod is new"
        if condition(pod, "Ready").get("status") == "True":
            return ready
        claim = self.trouble.get(f"{namespace}/state-{name}-0", "")
        trouble = self.trouble.get(pod["metadata"].get("uid", ""), "") or claim
        return of_pod(pod, trouble) or f"is running, but not {ready} yet"

    def stuck(self, namespace: str, name: str) -> Object | None:
        """Return the pod of a node that is to be replaced and is not ready: a StatefulSet waits for it, for ever."""
        made, pod = self.sets.get((namespace, name), {}), self.pods.get((namespace, f"{name}-0"))
        if pod is None or pod["metadata"].get("deletionTimestamp") or condition(pod, "Ready").get("status") == "True":
            return None
        status = made.get("status", {})
        fresh = status.get("observedGeneration", 0) >= made.get("metadata", {}).get("generation", 1)
        revision = pod["metadata"].get("labels", {}).get("controller-revision-hash")
        return pod if fresh and revision != status.get("updateRevision") else None


def deaths(pod: Object) -> int:
    """Return how often a pod's container has died, where the cluster now waits before it starts it again."""
    statuses: Iterable[Object] = pod.get("status", {}).get("containerStatuses") or []
    waiting = [one for one in statuses if one.get("state", {}).get("waiting", {}).get("reason") == DIES]
    return max((int(one.get("restartCount", 0)) for one in waiting), default=0)
