"""A provisioned project's kits, read for a cluster: what their owners wrote, and what is to be a Secret."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from convoy.errors import BadInput
from convoy.kube.contents import Contents
from convoy.provision.kits import newest
from convoy.spec.kit import read_kit
from convoy.spec.project import Project
from convoy.trust import federation

_LOCAL: Final = ("node.yaml", "policy.yaml", "approved.yaml")
_STARTUP: Final = (  # what provisioning makes and project.yml does not say
    "root.crt",
    "federation.json",
    "join.token",
    "node.key",
    "node.crt",
    "issuing.key",
    "issuing.crt",
    "invites.json",
)


def read(project: Project, workspace: Path, *, secrets: bool) -> dict[str, Contents]:
    """Return what lies in the newest kits of a project, by participant; nothing where it was never provisioned.

    With `secrets`, all of it: raises `BadInput` where a participant of project.yml has no kit.
    """
    prod = newest(workspace / project.name)
    found: dict[str, Contents] = {}
    for participant in (project.server, *project.sites):
        folder = prod / participant.name if prod else None
        if folder is None or not folder.is_dir():
            if secrets:
                raise BadInput(
                    f"{participant.name} has no kit", why=f"looked in {prod or workspace}", fix="convoy provision"
                )
            continue
        kit = read_kit(folder)
        local = {name: (kit.local / name).read_text() for name in _LOCAL if (kit.local / name).is_file()}
        startup = {name: (kit.startup / name).read_bytes() for name in _STARTUP if (kit.startup / name).is_file()}
        found[participant.name] = Contents(local, startup if secrets else {})
    return found


def missing(project: Project, workspace: Path) -> list[str] | None:
    """Return who of project.yml has no kit yet; None where the project was never provisioned."""
    prod = newest(workspace / project.name)
    if prod is None:
        return None
    return [one.name for one in (*project.sites, *project.admins) if not (prod / one.name).is_dir()]


def is_old(project: Project, workspace: Path) -> bool:
    """Return whether the server's newest kit says otherwise than project.yml who takes part, and as what."""
    prod = newest(workspace / project.name)
    if prod is None:
        return False
    kit = read_kit(prod / project.server.name)
    said = federation.read(kit.federation_file.read_bytes(), kit.root_file.read_bytes()).participants
    wanted = {
        one.name: (one.org, getattr(one, "role", "")) for one in (project.server, *project.sites, *project.admins)
    }
    return {name: (one.org, one.role) for name, one in said.items()} != wanted


def admin(project: Project, workspace: Path) -> Path | None:
    """Return the kit of the project's first admin who may do everything, or None."""
    prod = newest(workspace / project.name)
    names = [one.name for one in project.admins if one.role == "project_admin"]
    return prod / names[0] if prod and names else None
