"""`convoy kit inspect` shows what a kit says; `convoy kit verify` checks all of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from convoy.cli import output
from convoy.errors import BadInput, ConvoyError, NotAllowed
from convoy.spec import kit as kits
from convoy.spec.kit import Kit
from convoy.spec.policy import read_policy
from convoy.spec.settings import at_home, read_settings
from convoy.trust import authority, membership, peers


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked, and what is wrong with it."""

    what: str
    ok: bool
    detail: str = ""
    fix: str = ""


def inspect(folder: Path, *, now: float) -> dict[str, str]:
    """Return what a kit says of itself, a label and a text each, in the order to show. Raises `BadInput`."""
    kit = at_home(kits.read_kit(folder))
    roots = authority.read_chain(kit.root_file.read_bytes(), name=str(kit.root_file))
    known, _ = membership.current(kit)
    return {
        "project": kit.project,
        "kind": kit.kind,
        "name": kit.name,
        "organisation": kit.org,
        "server": f"{kit.host}, port {kit.fed_port} for sites, {kit.admin_port} for people",
        **_identity(kit, now=now),
        "root": ", ".join(f"SHA256:{root.fingerprint(hashes.SHA256()).hex()}" for root in roots),
        "federation": f"number {known.number}, {len(known.sites())} sites",
    }


def _identity(kit: Kit, *, now: float) -> dict[str, str]:
    """Return what a kit says of its certificate; of a server's kit, that of its issuing authority."""
    file = kit.issuing_files[1] if kit.kind == "server" else kit.cert_file
    if not file.exists():
        return {
            "identity": f"none yet: it joins with its token at its first start, or with: convoy kit enrol {kit.root}"
        }
    cert = authority.read_certificate(file.read_bytes(), name=str(file))
    left = cert.not_valid_after_utc.timestamp() - now
    until = f"{output.span(left)} left" if left > 0 else f"expired {output.span(-left)} ago"
    return {
        "identity": "an issuing authority" if kit.kind == "server" else ", ".join(_names(cert)),
        "valid until": f"{cert.not_valid_after_utc:%Y-%m-%d %H:%M} UTC ({until})",
        "fingerprint": f"SHA256:{cert.fingerprint(hashes.SHA256()).hex()}",
    }


WHOLE: Final = "the kit is complete, its key or token is private, and nobody else can write to it"


def verify(folder: Path, *, now: float) -> list[Finding]:
    """Return what was checked, in order; all `ok` means that the kit can be started."""
    try:
        kit = kits.read_kit(folder)
    except BadInput as error:
        return [_finding(WHOLE, error)]
    with contextlib.suppress(BadInput):  # settings that cannot be read are found below
        kit = at_home(kit)
    if kit.kind != "server" and not kit.enrolled:
        proof = "it has a join token, and gets its certificate at its first start"
    else:
        proof = "the certificate is valid, of this project and for this participant"
    checks: list[tuple[str, Callable[[], object]]] = [
        (proof, lambda: peers.check_own(kit, now=now)),
        *([("the private key belongs to the certificate", lambda: peers.check_pair(kit))] if kit.enrolled else []),
        ("federation.json is signed by the root and lists this participant", lambda: _check_place(kit)),
    ]
    if kit.kind != "admin":
        checks.append(("local/node.yaml can be read", lambda: read_settings(kit)))
        checks.append(("the data that local/node.yaml names is checked", lambda: _look_for_data(kit)))
    if kit.kind == "site":
        checks.append(("local/policy.yaml can be read", lambda: read_policy(kit.local / "policy.yaml")))
    return [Finding(WHOLE, ok=True), *(_run(what, check) for what, check in checks)]


def _run(what: str, check: Callable[[], object]) -> Finding:
    """Return what a check found."""
    try:
        warning = check()
    except ConvoyError as error:
        return _finding(what, error)
    return Finding(what, ok=True, detail=warning if isinstance(warning, str) else "")


def _finding(what: str, error: ConvoyError) -> Finding:
    """Return the finding for a check that failed."""
    return Finding(what, ok=False, detail=". ".join(filter(None, [error.what, error.why])), fix=error.fix)


def _look_for_data(kit: Kit) -> str:
    """Return a warning about data that is not there: it may come before a job asks for it."""
    try:
        missing = read_settings(kit).missing_data
    except BadInput:  # the check before this one says so
        return ""
    return f"warning: missing: {', '.join(missing)}" if missing else ""


def _check_place(kit: Kit) -> None:
    """Raise `NotAllowed` unless the signed federation has this participant as this kind."""
    known, _ = membership.current(kit)
    listed = known.participants.get(kit.name)
    if known.project != kit.project or listed is None or listed.kind != kit.kind:
        raise NotAllowed(
            f"federation.json number {known.number} does not list {kit.kind} {kit.name}",
            fix="run `convoy provision` again",
        )


def _names(cert: x509.Certificate) -> list[str]:
    """Return every name in a certificate, its identity first."""
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]
