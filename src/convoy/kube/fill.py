"""The volume of `kits: volume`, filled: a helper pod for as long as that takes, each kit into a folder of its own."""

from __future__ import annotations

import asyncio
import io
import secrets
import tarfile
from collections.abc import Callable, Mapping
from typing import Final

from convoy.errors import PatienceOut, Refused
from convoy.kube import shared
from convoy.kube.cluster import Cluster
from convoy.kube.contents import SHARED, Contents
from convoy.kube.naming import Place
from convoy.pods.objects import CONTAINER_SECURITY, POD_SECURITY
from convoy.pods.trouble import of_pod
from convoy.trust.enrolment import invites_from_json

Say = Callable[[str], None]
NOTES: Final = "convoy-kits"  # who notes on the claim what was copied, beside who made it


async def fill(cluster: Cluster, place: Place, found: Mapping[str, Contents], *, say: Say, patience_s: float) -> None:
    """Let the volume hold every kit, and nobody else's; where it does already, nothing happens.

    Raises `PatienceOut` where the helper does not run after so long, `Refused`, `Unreachable`.
    """
    listed, _ = await cluster.list("PersistentVolumeClaim", place.namespace, shared.selector(place))
    before = next((shared.noted(it, shared.COPIED) for it in listed if it["metadata"]["name"] == SHARED), {})
    kits = shared.kits(place, found)
    wanted = {name: shared.digest(files) for name, files in kits.items()}
    changed = sorted(name for name in {*wanted, *before} if wanted.get(name) != before.get(name))
    if changed:
        await sweep(cluster, place)
        name = f"{SHARED}-{secrets.token_hex(3)}"
        pod = await cluster.apply(shared.helper(place, name, (POD_SECURITY, CONTAINER_SECURITY)))
        try:
            await _running(cluster, place, name, say=say, patience_s=patience_s)
            for folder in changed:
                command = ["python3", "-m", "convoy.kube.unpack", f"{shared.FOLDER}/{folder}"]
                async with asyncio.timeout(patience_s):
                    await cluster.feed(place.namespace, name, command, _tar(kits.get(folder, {})))
                say(f"{folder}: its kit is {'on the volume' if folder in kits else 'removed from the volume'}")
        except TimeoutError:
            raise PatienceOut(
                f"{name} has not taken a kit for {patience_s:.0f} s", fix="run `convoy kube up` again"
            ) from None
        finally:
            await cluster.remove({"kind": "Pod", **pod})
    startup = found[place.project.server.name].startup
    invites = invites_from_json(startup.get("invites.json", b"[]"))
    told = shared.told(startup.get("federation.json", b""), invites)
    await cluster.apply(shared.note(place, wanted, told), manager=NOTES)


async def sweep(cluster: Cluster, place: Place) -> None:
    """Remove helpers that a killed `up` left behind."""
    left, _ = await cluster.list("Pod", place.namespace, shared.selector(place))
    for it in left:
        await cluster.remove(it)


async def _running(cluster: Cluster, place: Place, name: str, *, say: Say, patience_s: float) -> None:
    words = "is not made yet"
    try:
        async with asyncio.timeout(patience_s):
            async for what, it in cluster.changes("Pod", place.namespace, shared.selector(place)):
                if not it or it["metadata"]["name"] != name:
                    continue
                phase = it.get("status", {}).get("phase", "")
                if what == "DELETED" or phase in ("Failed", "Succeeded"):
                    raise Refused(f"{name}, which receives the kits, has ended", why=of_pod(it))
                if phase == "Running":
                    return
                if (now := of_pod(it)) != words:
                    words = now
                    say(f"{name}: {words}")
    except TimeoutError:
        fix = f"kubectl -n {place.namespace} describe pod {name}; docs/kubernetes.md, `kits: volume`"
        raise PatienceOut(f"{name}, which receives the kits, is not running", why=words, fix=fix) from None


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of files, whole records long: whoever reads it needs no end of its stream."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in sorted(files.items()):
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(data), 0o600
            tar.addfile(about, io.BytesIO(data))
    return out.getvalue()
