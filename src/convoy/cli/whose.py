"""Whose kit a person's command uses, and at which address its server answers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from convoy.errors import BadInput
from convoy.spec.kit import Kit, read_kit

RUNNING: Final = "up.json"  # what `convoy up` writes into workspace/<project>/


@dataclass(frozen=True, slots=True)
class Whose:
    """An admin's kit, and the server's HOST:PORT ("": as the kit says)."""

    kit: Kit
    server: str


def find(kit: str, server: str, *, here: Path) -> Whose:
    """Return the kit named by --kit or CONVOY_KIT, else that of the federation that runs here, else the only one.

    Raises `BadInput` where there is none, or more than one.
    """
    server = server or os.environ.get("CONVOY_SERVER", "")
    named = kit or os.environ.get("CONVOY_KIT", "")
    if named:
        found = read_kit(Path(named))
        return Whose(found, server or _local(found.root))
    running = [read_running(file) for file in sorted(here.glob(f"workspace/*/{RUNNING}"))]
    running = [said for said in running if said["admin"]]
    if len(running) == 1:
        return Whose(read_kit(Path(running[0]["admin"])), server or running[0]["server"])
    if running:
        raise _choose("more than one federation runs here", [Path(said["admin"]) for said in running])
    kits = _newest_admins(here / "workspace")
    if len(kits) == 1:
        return Whose(read_kit(kits[0]), server)
    if kits:
        raise _choose("there is more than one admin's kit here", kits)
    raise BadInput(
        "there is no admin's kit here",
        why=f"looked in {here / 'workspace'}",
        fix="name one with --kit FOLDER or CONVOY_KIT; or begin with `convoy provision` and `convoy up`",
    )


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
    raise BadInput(f"{file} is not what `convoy up` writes", fix="remove it, and run `convoy up` again")


def _newest_admins(workspace: Path) -> list[Path]:
    """Return every admin's kit in the newest prod_NN of each project."""
    newest: dict[Path, Path] = {}
    for prod in sorted(workspace.glob("*/prod_*"), key=lambda path: (len(path.name), path.name)):
        newest[prod.parent] = prod
    return [script.parent.parent for prod in newest.values() for script in sorted(prod.glob("*/startup/fl_admin.sh"))]
