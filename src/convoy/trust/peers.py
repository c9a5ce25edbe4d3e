"""Who a certificate says its holder is, once everything about it has been checked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from convoy.errors import BadInput, NotAllowed
from convoy.spec.kit import KINDS, Kind, Kit
from convoy.trust import authority, keys

ADMIN: Final[tuple[Kind, ...]] = ("admin",)


@dataclass(frozen=True, slots=True)
class Identity:
    """A participant, proven by a certificate of the project's root; a server's name is "server"."""

    project: str
    kind: Kind
    name: str


def identity_of(
    cert_pem: bytes, root_pem: bytes, *, now: float, want: Collection[Kind] = KINDS, name: str = "the certificate"
) -> Identity:
    """Return who the holder of a certificate is; `name` is the certificate's, for messages.

    Raises `NotAllowed` for a certificate of another root, out of its time, for another use, or of no kind in `want`.
    """
    try:
        cert = authority.read_certificate(cert_pem, name=name)
        root = authority.read_certificate(root_pem, name="the root certificate")
        identity = _checked(cert, root, now=now, name=name)
    except (BadInput, ValueError, x509.InvalidVersion) as error:
        raise NotAllowed(f"{name} cannot be read", why=str(error)) from error
    if identity.kind not in want:
        raise NotAllowed(f"{name} is that of a {identity.kind}", why=f"only this kind may: {' or '.join(want)}")
    return identity


def check_own(kit: Kit, *, now: float) -> None:
    """Raise `NotAllowed` unless a kit's certificate is good and says what its convoy.yaml says."""
    identity = identity_of(kit.cert_file.read_bytes(), kit.root_file.read_bytes(), now=now, name=str(kit.cert_file))
    if identity != Identity(kit.project, kit.kind, "server" if kit.kind == "server" else kit.name):
        raise NotAllowed(
            f"the certificate is that of {identity.kind} {identity.name} of {identity.project}",
            why=f"startup/convoy.yaml says {kit.kind} {kit.name} of {kit.project}",
            fix="copy the whole kit again",
        )


def check_pair(kit: Kit) -> None:
    """Raise `NotAllowed` unless a kit's key and certificate are a pair."""
    cert = authority.read_certificate(kit.cert_file.read_bytes(), name=str(kit.cert_file))
    if keys.load(kit.key_file).public_key() != cert.public_key():
        raise NotAllowed("node.key is not the key of node.crt", why=f"in {kit.startup}", fix="copy the whole kit again")


def _checked(cert: x509.Certificate, root: x509.Certificate, *, now: float, name: str) -> Identity:
    """Check chain, time, constraints and usage, in this order, and return the identity."""
    project = str(root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    _issued_by(cert, root, project=project, name=name)
    _in_time(root, now=now, name=f"the root certificate of {project}")
    _in_time(cert, now=now, name=name)
    try:
        constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = cert.extensions.get_extension_for_class(x509.KeyUsage).value
        extended = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise NotAllowed(f"{name} was not made for a participant", why=str(error)) from error
    identity = _named(names.get_values_for_type(x509.UniformResourceIdentifier), project=project, name=name)
    if constraints.ca or not usage.digital_signature or list(extended) != [authority.USAGE[identity.kind]]:
        raise NotAllowed(
            f"{name} is not for the use of a {identity.kind}", why="its key usage is another; provision anew"
        )
    return identity


def _issued_by(cert: x509.Certificate, root: x509.Certificate, *, project: str, name: str) -> None:
    """Raise `NotAllowed` unless the root signed the certificate."""
    try:
        cert.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError) as error:
        issuer = cert.issuer.rfc4514_string()
        why = (
            f"its issuer is {issuer}; this project's is {root.subject.rfc4514_string()}"
            if cert.issuer != root.subject
            else f"its issuer is called {issuer} too, but is another one, or the certificate has been changed"
        )
        raise NotAllowed(
            f"{name} is not from the root of {project}", why=why, fix="use a kit that this project's provision made"
        ) from error


def _in_time(cert: x509.Certificate, *, now: float, name: str) -> None:
    """Raise `NotAllowed` before a certificate's first second and after its last."""
    instant = dt.datetime.fromtimestamp(now, tz=dt.UTC)
    if instant > cert.not_valid_after_utc:
        raise NotAllowed(
            f"{name} expired at {cert.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            why=f"that was {_ago(instant - cert.not_valid_after_utc)} ago",
            fix="provision anew, which renews it and keeps its key",
        )
    if instant < cert.not_valid_before_utc:
        raise NotAllowed(
            f"{name} is not valid before {cert.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            why=f"that is {_ago(cert.not_valid_before_utc - instant)} from now",
            fix="set this machine's clock",
        )


def _named(uris: list[str], *, project: str, name: str) -> Identity:
    """Return the identity that the one URI names."""
    prefix = f"spiffe://{project}/"
    if len(uris) == 1 and uris[0].startswith(prefix):
        match uris[0].removeprefix(prefix).split("/"):
            case ["server"]:
                return Identity(project, "server", "server")
            case ["site" | "admin" as kind, who] if who:
                return Identity(project, kind, who)
    raise NotAllowed(f"{name} names nobody of {project}", why=f"it says: {', '.join(uris) or 'nothing'}")


def _ago(span: dt.timedelta) -> str:
    """Return a span of time as people say it."""
    seconds = span.total_seconds()
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
