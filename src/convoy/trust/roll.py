"""The newest federation.json that a node has seen; an older one never takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convoy.spec.kit import Kit
from convoy.trust import files

if TYPE_CHECKING:
    from convoy.trust.federation import Federation

KEPT = "federation.json"  # in a node's workspace


def current(kit: Kit) -> Federation:
    """Return who is who by the newest one that this node has. Raises `NotAllowed` for one that was changed."""
    from convoy.trust import federation

    return federation.newest(kit.project, kit.root_file.read_bytes(), *known(kit))[0]


def take(kit: Kit, signed: bytes) -> None:
    """Keep a federation.json if it is newer than what this node has. Raises `NotAllowed` if it is forged."""
    there = known(kit)
    if signed in there:
        return
    from convoy.trust import federation  # cryptography comes with the first news

    if federation.newest(kit.project, kit.root_file.read_bytes(), *there, signed)[1] == signed:
        files.write(kit.work / KEPT, signed, mode=0o644)


def known(kit: Kit) -> list[bytes]:
    """Return each federation.json that this node has."""
    there = (file for file in (kit.federation_file, kit.work / KEPT) if file.exists())
    return [file.read_bytes() for file in there]
