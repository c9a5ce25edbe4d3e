"""What the doctor looks at in the cluster itself, where a context of the person's kubeconfig leads there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convoy.eks import repair
from convoy.eks.facts import Inside, Unseen, VolumeClass
from convoy.eks.repair import Which
from convoy.errors import BadInput, ConvoyError
from convoy.kube.cluster import Cluster, connect
from convoy.kube.findings import is_default
from convoy.spec import yamls


def kubeconfigs(environ: Mapping[str, str], home: Path) -> list[Path]:
    """Return the person's kubeconfig files, as kubectl finds them; of those that are listed some may be missing."""
    listed = [Path(name) for name in environ.get("KUBECONFIG", "").split(":") if name]
    return [file for file in listed or [home / ".kube" / "config"] if file.is_file()]


def context_for(endpoint: str, files: Sequence[Path]) -> str | None:
    """Return the first context whose cluster is served at an endpoint. Raises `BadInput` for a file that is none."""
    said = [(file, yamls.load_file(file).mapping()) for file in files]
    clusters = {one["name"] for one in _entries(said, "clusters") if _same(one["cluster"].get("server"), endpoint)}
    for one in _entries(said, "contexts"):
        if one["context"].get("cluster") in clusters:
            return str(one["name"])
    return None


def _entries(said: Sequence[tuple[Path, dict[str, Any]]], key: str) -> list[dict[str, Any]]:
    inner = key.removesuffix("s")
    found = []
    for file, document in said:
        for one in document.get(key) or []:
            if not isinstance(one, dict) or not isinstance(one.get(inner), dict) or "name" not in one:
                raise BadInput(f"{file} is not a kubeconfig", why=f"one of its {key} has no name or no {inner}")
            found.append(one)
    return found


def _same(server: Any, endpoint: str) -> bool:
    return str(server).rstrip("/").lower() == endpoint.rstrip("/").lower()


async def look(endpoint: str, files: Sequence[Path], which: Which) -> Inside | Unseen:
    """Return what the cluster behind an endpoint says, or why nobody asked it."""
    try:
        context = context_for(endpoint, files)
        if context is None:
            return Unseen("no context of your kubeconfig leads to this cluster", repair.kubeconfig(which))
        async with connect(context) as cluster:
            return await read(cluster)
    except ConvoyError as problem:
        why = f"{problem.what}: {problem.why}" if problem.why else problem.what
        return Unseen(why, problem.fix or repair.kubeconfig(which))


async def read(cluster: Cluster) -> Inside:
    """Return the StorageClasses of a cluster, and the GPUs that its machines offer to pods."""
    classes, _ = await cluster.list("StorageClass", "", "")
    machines, _ = await cluster.list("Node", "", "")
    offered = [one.get("status", {}).get("allocatable", {}).get("nvidia.com/gpu", 0) for one in machines]
    return Inside(cluster.context, tuple(map(volume_class, classes)), sum(map(int, offered)))


def volume_class(it: Mapping[str, Any]) -> VolumeClass:
    """Return a StorageClass of the API as a plain value."""
    meta = it["metadata"]
    return VolumeClass(
        meta["name"],
        it["provisioner"],
        it.get("parameters") or {},
        it.get("volumeBindingMode") or "Immediate",
        is_default(it),
    )
