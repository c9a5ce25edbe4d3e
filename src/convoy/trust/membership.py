"""Who is who as a node knows it: the newest federation.json that it has seen, and the roots that this one names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from convoy.errors import NotAllowed
from convoy.spec.kit import Kit
from convoy.trust import files

if TYPE_CHECKING:
    from convoy.trust.federation import Federation

KEPT: Final = "federation.json"  # in a participant's workspace


def current(kit: Kit) -> tuple[Federation, bytes]:
    """Return who is who, and the file that says so. Raises `NotAllowed` for one that was changed."""
    from convoy.trust import federation

    kept = kit.work / KEPT
    signed = (kept if kept.exists() else kit.federation_file).read_bytes()
    return federation.read(signed, kit.root_file.read_bytes()), signed


def ever(kit: Kit) -> bytes:
    """Return every root that may vouch for an audit trail (PEM): those in force, the kit's own, and retired ones."""
    retired = "".join(current(kit)[0].retired).encode()  # these have signed much
    return kit.root_file.read_bytes() + (kit.startup / "root.crt").read_bytes() + retired


def take(kit: Kit, signed: bytes) -> bool:
    """Keep a federation.json and its roots if it is newer than what there is; return whether it is.

    Raises `NotAllowed` if no root that is trusted now has signed it, or if it is another project's.
    """
    kept = kit.work / KEPT
    if signed == (kept if kept.exists() else kit.federation_file).read_bytes():
        if kept.exists():
            _trust(kit, signed)
        return False
    from convoy.trust import authority, federation  # cryptography comes with the first news

    known, _ = current(kit)
    new = federation.read(signed, kit.root_file.read_bytes())
    if new.project != known.project:
        raise NotAllowed(f"this federation.json belongs to {new.project}", why=f"this is {known.project}")
    if new.number <= known.number:
        return False
    if new.roots:
        authority.read_chain("".join(new.roots).encode(), name="a root in federation.json")
    kit.work.mkdir(mode=0o700, exist_ok=True)
    files.write(kept, signed, mode=0o644)
    _trust(kit, signed)
    return True


def _trust(kit: Kit, kept: bytes) -> None:
    """Put the roots of what is kept in force; whoever was killed before does it when it hears the same again."""
    roots = "".join(json.loads(kept).get("roots", [])).encode()
    if roots and (not kit.roots_file.exists() or kit.roots_file.read_bytes() != roots):
        files.write(kit.roots_file, roots, mode=0o644)


def begin_anew(kit: Kit) -> None:
    """Forget what was kept where the kit itself is newer: its owner has put another one in its place."""
    if (kit.work / KEPT).exists() and number(kit.federation_file.read_bytes()) > number((kit.work / KEPT).read_bytes()):
        for old in (kit.work / KEPT, kit.roots_file):
            old.unlink(missing_ok=True)


def known(kit: Kit) -> int:
    """Return the number of the federation.json that a participant has."""
    kept = kit.work / KEPT
    return number((kept if kept.exists() else kit.federation_file).read_bytes())


def number(signed: bytes) -> int:
    """Return the number of a federation.json of our own, without a look at its signature."""
    return int(json.loads(signed)["number"])
