"""federation.json: who is who in a project, numbered and signed by its root."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from convoy.errors import NotAllowed
from convoy.spec import jsons
from convoy.spec.kit import KINDS, Kind

if TYPE_CHECKING:  # an idle site reads this file without loading cryptography
    from convoy.trust.keys import PrivateKey

_PREFIX: Final = b"convoy federation 1\n"  # a signature for one purpose is no good for another
MAX_ROOTS: Final = 2  # the new one and the old one, while a root is replaced
MAX_RETIRED: Final = 64  # former roots; one a year for a lifetime
MAX_BYTES: Final = 3 << 20  # it is sent to each site in one message
MAX_PARTICIPANTS: Final = 20_000  # about 150 bytes each


@dataclass(frozen=True, slots=True)
class Participant:
    """What a participant is; `role` is empty but for admins."""

    kind: Kind
    org: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class Federation:
    """Everybody in a project; the number rises with each change.

    `roots` (PEM) are trusted from this one on, and no others: while one root takes another's place there are two. None:
    those of the kit. Nobody is who a `retired` root says; it vouches for what was signed in its time: audit trails, and
    jobs that were taken then.
    """

    project: str
    number: int
    participants: Mapping[str, Participant]
    roots: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()

    def sites(self) -> list[str]:
        """Return the sites' names, sorted."""
        return sorted(name for name, who in self.participants.items() if who.kind == "site")

    def person(self, name: str) -> Participant:
        """Return an admin. Raises `NotAllowed` for somebody who is not, or no longer, one."""
        who = self.participants.get(name)
        if who is None or who.kind != "admin":
            raise NotAllowed(
                f"{name} is not an admin of {self.project}",
                why=f"federation.json number {self.number} does not list this name",
                fix="ask a project_admin to add you to project.yml and run `convoy federation publish`",
            )
        return who


@dataclass(slots=True)
class Membership:
    """The federation as it is now, its roots, and whose certificates are no good.

    `revoked` says up to when, in wall seconds; a newer federation.json may take the place of the one before.
    """

    now: Federation
    root_pem: bytes
    revoked: dict[str, float] = field(default_factory=dict)
    changed: list[Callable[[], None]] = field(default_factory=list)  # called once somebody may do less than before

    def take(self, new: Federation, root_pem: bytes) -> None:
        """Put a newer federation and its roots in force."""
        self.now, self.root_pem = new, root_pem
        self._tell()

    def revoke(self, name: str, now: float) -> None:
        """Let no certificate be good that somebody got up to now."""
        self.revoked[name] = now
        self._tell()

    def _tell(self) -> None:
        for heard in self.changed:
            heard()

    def check_certified(self, name: str, issued_at: float) -> None:
        """Raise `NotAllowed` if a certificate of somebody's, issued then, was taken back since."""
        if issued_at <= self.revoked.get(name, 0.0):
            raise NotAllowed(
                f"the certificate of {name} was revoked", fix=f"ask for a new invitation: convoy kit invite {name}"
            )

    def next_issue(self, name: str, now: float) -> float:
        """Return when a new certificate is issued: it knows whole seconds, and that of a revocation is over."""
        return max(now, math.floor(self.revoked.get(name, 0.0)) + 1.0)


def sign(federation: Federation, root_key: PrivateKey) -> bytes:
    """Return the file that says this, with the root's signature."""
    from convoy.trust import keys

    said = _said(federation)
    signature = keys.sign(root_key, _signed(said))
    return json.dumps(said | {"signature": base64.b64encode(signature).decode()}, indent=1).encode() + b"\n"


def read(data: bytes, root_pem: bytes) -> Federation:
    """Return what a federation.json says. Raises `NotAllowed` if it is not as a root in `root_pem` signed it."""
    from convoy.trust import authority, keys

    if len(data) > MAX_BYTES:
        raise NotAllowed("federation.json is too large", why=f"{len(data):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        said = jsons.load(data, most=MAX_PARTICIPANTS + 4)
        signature = base64.b64decode(said.pop("signature"), validate=True)
        federation = _heard(said)
    except (ValueError, binascii.Error, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotAllowed("federation.json cannot be read", why=f"{type(error).__name__}: {error}") from error
    roots, text = authority.read_chain(root_pem, name="the root certificate"), _signed(_said(federation))
    if not any(keys.signed_by(root.public_key(), signature, text) for root in roots):
        raise NotAllowed(
            "federation.json differs from what the project's root signed",
            why="it was changed, or it belongs to another project",
            fix="copy the kit's startup folder again",
        )
    return federation


def _said(federation: Federation) -> dict[str, Any]:
    """Return the federation as JSON values."""
    roots = {"roots": list(federation.roots)} if federation.roots else {}
    retired = {"retired": list(federation.retired)} if federation.retired else {}
    return (
        roots
        | retired
        | {
            "project": federation.project,
            "number": federation.number,
            "participants": {
                name: {"kind": who.kind, "org": who.org, "role": who.role}
                for name, who in sorted(federation.participants.items())
            },
        }
    )


def _heard(said: dict[str, Any]) -> Federation:
    """Return the federation that JSON values describe. Raises `ValueError`, `KeyError` or `TypeError`."""
    participants = {}
    for name, who in said["participants"].items():
        kind, org, role = who["kind"], who["org"], who["role"]
        if kind not in KINDS or not isinstance(org, str) or not isinstance(role, str):
            raise ValueError(f"{name} is not a participant")
        participants[name] = Participant(kind, org, role)
    project, number, roots = said["project"], said["number"], said.get("roots", [])
    if not isinstance(project, str) or type(number) is not int:
        raise ValueError("project or number is missing")
    for found, most in ((roots, MAX_ROOTS), (retired := said.get("retired", []), MAX_RETIRED)):
        if not isinstance(found, list) or len(found) > most or not all(isinstance(root, str) for root in found):
            raise ValueError("its list of roots is not valid")
    return Federation(project, number, participants, tuple(roots), tuple(retired))


def _signed(said: dict[str, Any]) -> bytes:
    """Return the exact bytes that the root signs: what the file means, however it is laid out."""
    return _PREFIX + json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
