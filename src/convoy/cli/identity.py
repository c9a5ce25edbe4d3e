"""Whose kit a person's command uses, and at which address its server answers."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from convoy.errors import BadInput
from convoy.spec.kit import Kit, read_kit

IN_CLUSTER: Final = "kube.json"  # what `convoy kube up` writes there
RUNNING: Final = "up.json"  # what `convoy up` writes into workspace/<project>/


@dataclass(frozen=True, slots=True)
class Identity:
    """An admin's kit, and the server's HOST:PORT ("": as the kit says), or the project whose server is in a cluster."""

    kit: Kit
    server: str
    cluster: Path | None = None

    @asynccontextmanager
    async def reached(self) -> AsyncIterator[str]:
        """Give the server's HOST:PORT; one in a cluster has it for as long as the context lasts."""
        if self.cluster is None:
            yield self.server
            return
        from convoy.kube import reach  # only who has a cluster pays for its client

        async with reach.server(self.cluster) as address:
            yield address


def find(kit: str, server: str, *, kube: bool = False, here: Path) -> Identity:
    """Return the kit named by --kit or CONVOY_KIT, else that of the federation that runs here, else the only one.

    With `kube`, the server is the one in a cluster, whatever runs here. Raises `BadInput` where there is none, or more
    than one.
    """
    if kube:
        return _remembered(kit or os.environ.get("CONVOY_KIT", ""), server, here)
    server = server or os.environ.get("CONVOY_SERVER", "")
    named = kit or os.environ.get("CONVOY_KIT", "")
    if named:
        found = read_kit(Path(named))
        near = server or _local(found.root)
        return Identity(found, near, None if near else _in_cluster(found.root.parent.parent))
    running = [read_running(file) for file in sorted(here.glob(f"workspace/*/{RUNNING}"))]
    running = [said for said in running if said["admin"]]
    if len(running) == 1:
        return Identity(read_kit(Path(running[0]["admin"])), server or running[0]["server"])
    if running:
        raise _choose("more than one federation is running here", [Path(said["admin"]) for said in running])
    kits = _newest_admins(here / "workspace")
    if len(kits) == 1:
        return Identity(read_kit(kits[0]), server, None if server else _in_cluster(kits[0].parent.parent))
    if kits:
        raise _choose("there is more than one admin kit here", kits)
    raise BadInput(
        "there is no admin kit here",
        why=f"looked in {here / 'workspace'}",
        fix="name one with --kit FOLDER or CONVOY_KIT; to start a new federation: `convoy provision`, then `convoy up`",
    )


def _remembered(kit: str, server: str, here: Path) -> Identity:
    """Return whose kit it is where `convoy kube up` left word."""
    if server:
        raise BadInput("--server and --kube cannot be used together", fix="use only one of them")
    if kit:
        return in_cluster(read_kit(Path(kit)).root.parent.parent, kit)
    folders = sorted(file.parent for file in here.glob(f"workspace/*/{IN_CLUSTER}"))
    if len(folders) > 1:
        raise _choose("more than one federation of this workspace is in a cluster", folders)
    return in_cluster(folders[0] if folders else here / "workspace" / "*")


def in_cluster(folder: Path, kit: str = "") -> Identity:
    """Return a kit, and the project's folder as the way to its server; without a kit, that of `convoy kube up`.

    Raises `BadInput` where `convoy kube up` left no word in the folder, or had no admin's kit.
    """
    from convoy.kube import deployed  # only who has a cluster pays for reading it

    said = deployed.read(folder)
    if said is None:
        raise BadInput(
            "this workspace remembers no cluster", why=f"looked for {folder / IN_CLUSTER}", fix="convoy kube up"
        )
    if not (kit or said.admin):
        raise BadInput("project.yml had no project_admin at `convoy kube up`", fix="name a kit with --kit FOLDER")
    return Identity(read_kit(Path(kit or said.admin)), "", folder)


def _in_cluster(folder: Path) -> Path | None:
    """Return the project's folder if `convoy kube up` left word there that it is in a cluster."""
    return folder if (folder / IN_CLUSTER).is_file() else None


def _choose(what: str, kits: list[Path]) -> BadInput:
    return BadInput(what, why=", ".join(str(kit) for kit in kits), fix="name one with --kit FOLDER or CONVOY_KIT")


def _local(kit: Path) -> str:
    """Return the address of the server if `convoy up` runs this kit's federation on this machine, else ""."""
    file = kit.parent.parent / RUNNING
    if not file.is_file():
        return ""
    said = read_running(file)
    return str(said["server"]) if Path(said["prod"]) == kit.parent else ""


def read_running(file: Path) -> dict[str, Any]:
    """Return what `convoy up` wrote. Raises `BadInput` for anything else."""
    try:
        said = json.loads(file.read_text())
        if all(isinstance(said[key], str) for key in ("prod", "admin", "server")) and isinstance(said["nodes"], list):
            return dict(said)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise BadInput(f"{file} is not a file that `convoy up` wrote", fix="remove it, and run `convoy up` again")


def _newest_admins(workspace: Path) -> list[Path]:
    """Return every admin's kit in the newest prod_NN of each project."""
    newest: dict[Path, Path] = {}
    for prod in sorted(workspace.glob("*/prod_*"), key=lambda path: (len(path.name), path.name)):
        newest[prod.parent] = prod
    kits = [kit for prod in newest.values() for kit in sorted(prod.iterdir())]  # one that is not ours to read raises
    return [kit for kit in kits if (kit / "startup" / "fl_admin.sh").is_file()]
