"""The way down: pods drain, then everything that `up` made goes; volumes stay unless they are to go too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from convoy.errors import PatienceOut
from convoy.kube.cluster import Cluster, Object
from convoy.kube.fill import sweep
from convoy.kube.naming import Place
from convoy.kube.pods import GRACE_S
from convoy.kube.up import existing

Say = Callable[[str], None]
_KEPT = ("StatefulSet", "Namespace", "PersistentVolumeClaim")  # gone already, or with `volumes`
PATIENCE_S = 60.0 + GRACE_S  # for pods to drain, and for what is removed to be gone


async def down(cluster: Cluster, place: Place, *, volumes: bool, say: Say) -> int:
    """Remove a federation and return how many objects went; returns once they are gone.

    With `volumes`, the claims of its nodes go too, and with them jobs and results, and the namespaces that `up` made.
    """
    found = await existing(cluster, place)
    sets = [it for it in found.values() if it["kind"] == "StatefulSet"]
    spaces = sorted({*place.namespaces, *(it["metadata"]["namespace"] for it in sets)})
    for it in sets:
        await cluster.remove(it)
    if sets:
        say(f"{len(sets)} nodes are draining")
    await sweep(cluster, place)
    for space in spaces:
        await _gone(cluster, "Pod", space, place.chosen())
    rest = [it for it in found.values() if it["kind"] not in _KEPT]
    if volumes:
        for space in spaces:
            claims, _ = await cluster.list("PersistentVolumeClaim", space, place.chosen())
            rest += claims
        rest += [it for it in found.values() if it["kind"] == "Namespace"]
    for it in rest:
        await cluster.remove(it)
    if volumes:
        for space in spaces:
            await _gone(cluster, "PersistentVolumeClaim", space, place.chosen())
        if any(it["kind"] == "Namespace" for it in rest):
            await _gone(cluster, "Namespace", "", place.selector())
    return len(sets) + len(rest)


async def _gone(cluster: Cluster, kind: str, namespace: str, selector: str) -> None:
    """Return once nothing of a kind is left. Raises `PatienceOut`, naming what is."""
    left: dict[str, Object] = {}
    listed = False
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for what, it in cluster.changes(kind, namespace, selector):
                if what == "LISTED":
                    listed = True
                elif what == "DELETED":
                    left.pop(it["metadata"]["name"], None)
                else:
                    left[it["metadata"]["name"]] = it
                if listed and not left:
                    return
    except TimeoutError:
        stuck = ", ".join(left)
        raise PatienceOut(
            f"{kind} {stuck} still exists after {PATIENCE_S:.0f} s",
            why=f"finalizers: {[it['metadata'].get('finalizers', []) for it in left.values()]}",
            fix=f"kubectl describe {kind.lower()} {stuck}",
        ) from None
