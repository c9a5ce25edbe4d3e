"""A look at a cluster before `up`, which changes nothing: what stands in the way of a federation there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from convoy.errors import NotAllowed, NotFound
from convoy.kube.cluster import Cluster, Object
from convoy.kube.findings import Access, Facts, Finding, judged
from convoy.kube.naming import Place
from convoy.kube.objects import objects
from convoy.kube.up import MADE, WATCHED

AT_ONCE: Final = 8  # questions: the API server answers others too
_APPLIED: Final = ("create", "patch", "delete")
_USED: Final = (
    ("list", ""),
    ("delete", ""),
    ("get", "log"),
    ("get", "portforward"),
    ("create", "portforward"),
)  # of pods

_FILLED: Final = (("create", ""), ("patch", ""), ("get", "exec"), ("create", "exec"))  # pods, with `kits: volume`


async def examine(cluster: Cluster, place: Place) -> list[Finding]:
    """Return what was found. Raises `Unreachable`, and `BadInput` for options that cannot be."""
    wanted = objects(place.project, place.options, {})
    nodes, pods = await _listed(cluster, "Node", [""]), await _listed(cluster, "Pod", [""])
    spaces, claims = (
        await _listed(cluster, "Namespace", [""]),
        await _listed(cluster, "PersistentVolumeClaim", place.namespaces),
    )
    facts = Facts(
        version=await cluster.version(),
        denied=await _denied(cluster, accesses(place, wanted)),
        namespaces=None if spaces is None else [it["metadata"]["name"] for it in spaces],
        classes=await _listed(cluster, "StorageClass", [""]),
        nodes=nodes,
        pods=pods,
        claims=None if claims is None else [(it["metadata"]["namespace"], it["metadata"]["name"]) for it in claims],
    )
    return judged(facts, place, wanted)


def accesses(place: Place, wanted: Iterable[Object]) -> list[Access]:
    """Return all that `up` does, as rights."""
    kinds = sorted({it["kind"] for it in wanted if it["kind"] != "Namespace"} | {"Secret"})
    made = [Access(verb, "Namespace", "") for verb in ("create", "patch") if place.options.create_namespace]
    for namespace in place.namespaces:
        made += [Access(verb, kind, namespace) for kind in kinds for verb in _APPLIED]
        made += [Access("list", kind, namespace) for kind in MADE]
        if place.options.kits == "volume":
            made += [Access(verb, "Pod", namespace, part) for verb, part in _FILLED]
        made += [Access("watch", kind, namespace) for kind in WATCHED]
        made += [Access(verb, "Pod", namespace, part) for verb, part in _USED]
    return made


async def _denied(cluster: Cluster, asked: list[Access]) -> list[Access]:
    """Return what of all that the person may not do."""
    some = asyncio.Semaphore(AT_ONCE)

    async def may(one: Access) -> bool:
        async with some:
            return await cluster.may(one.verb, one.kind, one.namespace, one.part)

    try:
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(may(one)) for one in asked]
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    return [one for one, answer in zip(asked, answers, strict=True) if not answer.result()]


async def _listed(cluster: Cluster, kind: str, namespaces: Iterable[str]) -> list[Object] | None:
    """Return what there is of a kind; None where the person may not look."""
    found: list[Object] = []
    try:
        for namespace in namespaces:
            found += (await cluster.list(kind, namespace, ""))[0]
    except NotAllowed:
        return None
    except NotFound:  # an older cluster that has no such kind
        return []
    return found
