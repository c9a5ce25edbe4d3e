"""How the nodes of a federation in a cluster are at this moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from convoy.kube.cluster import Cluster
from convoy.kube.naming import Place, slug
from convoy.kube.waiting import Seen


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node: what it is or waits for, on which machine, how often its container was started again."""

    name: str
    state: str
    machine: str
    restarts: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


async def states(cluster: Cluster, place: Place) -> list[NodeState]:
    """Return the server's state and each site's."""
    seen = Seen()
    for namespace in place.namespaces:
        for kind in ("StatefulSet", "Pod", "Event"):
            listed, _ = await cluster.list(kind, namespace, "" if kind == "Event" else place.chosen())
            for it in listed:
                seen.take(kind, "ADDED", it)
    made = []
    for one in (place.project.server, *place.project.sites):
        home = (place.namespace_of(one), slug(one.name))
        pod = seen.pods.get((home[0], f"{home[1]}-0"), {})
        counts = [status.get("restartCount", 0) for status in pod.get("status", {}).get("containerStatuses") or []]
        made.append(NodeState(one.name, seen.state(*home), pod.get("spec", {}).get("nodeName", ""), sum(counts)))
    return made
