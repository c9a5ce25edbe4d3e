"""Who a certificate says its holder is, once everything about it has been checked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from convoy.errors import BadInput, NotAllowed
from convoy.spec.kit import KINDS, Kind, Kit
from convoy.trust import authority, enrolment, keys

LONGEST: Final = 2  # certificates below a root: an issuing authority's, and one that it has issued
ADMIN: Final[tuple[Kind, ...]] = ("admin",)


@dataclass(frozen=True, slots=True)
class Identity:
    """A participant, proven by a certificate of the project's root; a server's name is "server"."""

    project: str
    kind: Kind
    name: str
    issued_at: float = field(default=0.0, compare=False)  # wall seconds: whoever it was revoked for by then is not it


def identity_of(
    cert_pem: bytes, root_pem: bytes, *, now: float, want: Collection[Kind] = KINDS, name: str = "the certificate"
) -> Identity:
    """Return who the holder of a certificate is; `name` is the certificate's, for messages.

    An issuing authority may follow it in `cert_pem`; `root_pem` has one root, or two while one takes the other's place.
    Raises `NotAllowed` for a certificate of another root, out of its time, for another use, or of no kind in `want`.
    """
    try:
        chain = authority.read_chain(cert_pem, name=name)
        roots = authority.read_chain(root_pem, name="the root certificate")
        identity = _checked(chain, roots, now=now, name=name)
    except (BadInput, ValueError, x509.InvalidVersion) as error:
        raise NotAllowed(f"{name} cannot be read", why=str(error)) from error
    if len(chain) > LONGEST:
        raise NotAllowed(f"{name} contains {len(chain)} certificates", why=f"at most {LONGEST} are read")
    if identity.kind not in want:
        raise NotAllowed(
            f"{name} belongs to a {identity.kind}", why=f"only these kinds are accepted: {' or '.join(want)}"
        )
    return identity


def check_own(kit: Kit, *, now: float) -> None:
    """Raise `NotAllowed` unless a kit's certificate is good and says what its convoy.yaml says.

    A server's is that of its issuing authority; a kit that has none yet has a join token.
    """
    if kit.kind == "server":
        issuing, file = issuing_of(kit)
        check_issuing(issuing.cert, kit.root_file.read_bytes(), project=kit.project, now=now, name=str(file))
        return
    if not kit.enrolled:
        enrolment.read_token(kit.token_file.read_text())
        return
    identity = identity_of(kit.certificate, kit.root_file.read_bytes(), now=now, name=str(kit.cert_file))
    if identity != Identity(kit.project, kit.kind, kit.name):
        raise NotAllowed(
            f"the certificate belongs to {identity.kind} {identity.name} of {identity.project}",
            why=f"startup/convoy.yaml says {kit.kind} {kit.name} of {kit.project}",
            fix="copy the whole kit again",
        )


def check_pair(kit: Kit) -> None:
    """Raise `NotAllowed` unless a kit's key and certificate are a pair, if it has them yet."""
    if kit.kind == "server" or not kit.enrolled:
        return
    cert = authority.read_certificate(kit.certificate, name=str(kit.cert_file))
    if keys.load(kit.key_file).public_key() != cert.public_key():
        raise NotAllowed("node.key is not the key of node.crt", why=f"in {kit.startup}", fix="copy the whole kit again")


def issuing_of(kit: Kit) -> tuple[authority.Authority, Path]:
    """Return the issuing authority that a server uses, its key included, and the file of its certificate.

    That is its kit's, or one that it was lent since and that is no older. Raises `BadInput` unless it is whole.
    """
    pairs = ([(kit.lent_file, kit.lent_file)] if kit.lent_file.exists() else []) + [kit.issuing_files]
    found = [(authority.Authority.load_issuing(kit.project, *pair), pair[1]) for pair in pairs]
    return max(found, key=lambda one: one[0].cert.not_valid_before_utc)


def check_issuing(cert: x509.Certificate, root_pem: bytes, *, project: str, now: float, name: str) -> None:
    """Raise `NotAllowed` unless the certificate of an issuing authority is in time and the root's."""
    roots = authority.read_chain(root_pem, name="the root certificate")
    above = _above([cert], roots, project=project, name=name)
    for one in (cert, *above):
        _in_time(one, now=now, name=name if one is cert else "the root certificate")
    if not _may_issue(cert):
        raise NotAllowed(f"{name} may not issue certificates", fix="copy the server's kit again")


def _checked(chain: list[x509.Certificate], roots: list[x509.Certificate], *, now: float, name: str) -> Identity:
    """Check chain, time, constraints and usage, in this order, and return the identity."""
    cert, project = chain[0], str(roots[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    above = _above(chain, roots, project=project, name=name)
    _in_time(above[-1], now=now, name=f"the root certificate of {project}")
    for issuing in above[:-1]:
        _in_time(issuing, now=now, name=f"the issuing authority of {name}")
    _in_time(cert, now=now, name=name)
    try:
        constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = cert.extensions.get_extension_for_class(x509.KeyUsage).value
        extended = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise NotAllowed(f"{name} was not made for a participant", why=str(error)) from error
    identity = _named(names.get_values_for_type(x509.UniformResourceIdentifier), project=project, name=name)
    identity = replace(identity, issued_at=cert.not_valid_before_utc.timestamp() + enrolment.BACKDATE_S)
    if constraints.ca or not usage.digital_signature or list(extended) != [authority.USAGE[identity.kind]]:
        raise NotAllowed(
            f"{name} is not for the use of a {identity.kind}", why="its key usage is wrong; provision again"
        )
    return identity


def _above(
    chain: list[x509.Certificate], roots: list[x509.Certificate], *, project: str, name: str
) -> list[x509.Certificate]:
    """Return what vouches for the first certificate of a chain, a root last. Raises `NotAllowed` if none does."""
    cert = chain[0]
    for root in roots:
        if signed(cert, root):
            return [root]
        for issuing in chain[1:2]:
            if signed(cert, issuing) and signed(issuing, root) and _may_issue(issuing):
                return [issuing, root]
    issuer, ours = _issuer(chain[:2][-1]), roots[0].subject.rfc4514_string()
    why = (
        f"its issuer is {issuer}; this project's is {ours}"
        if issuer != ours
        else f"its issuer has the same name {issuer} but is a different one, or the certificate was changed"
    )
    raise NotAllowed(
        f"{name} is not from the root of {project}",
        why=why,
        fix="use a kit that was provisioned for this project; if the root was replaced: convoy kit invite NAME",
    )


def _issuer(cert: x509.Certificate) -> str:
    try:
        return cert.issuer.rfc4514_string()
    except (ValueError, TypeError, KeyError):  # what cryptography says to names of odd kinds of text
        return "an unreadable name"


def signed(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether an issuer has signed a certificate."""
    try:
        cert.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _may_issue(cert: x509.Certificate) -> bool:
    """Return whether this certificate may sign leaves, and nothing but leaves."""
    try:
        constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = cert.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension):
        return False
    return constraints.ca and constraints.path_length == 0 and usage.key_cert_sign


def _in_time(cert: x509.Certificate, *, now: float, name: str) -> None:
    """Raise `NotAllowed` before a certificate's first second and after its last."""
    instant = dt.datetime.fromtimestamp(now, tz=dt.UTC)
    if instant > cert.not_valid_after_utc:
        raise NotAllowed(
            f"{name} expired at {cert.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            why=f"that was {_ago(instant - cert.not_valid_after_utc)} ago",
            fix="check this machine's clock; then ask the project's admin for `convoy kit invite NAME`, or, on the "
            "machine with the root key: convoy kit renew KIT; for a kit with ready keys: provision again",
        )
    if instant < cert.not_valid_before_utc:
        raise NotAllowed(
            f"{name} is not valid before {cert.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            why=f"that is {_ago(cert.not_valid_before_utc - instant)} from now",
            fix="correct this machine's clock",
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
    raise NotAllowed(f"{name} does not name a participant of {project}", why=f"it names {', '.join(uris) or 'nothing'}")


def _ago(span: dt.timedelta) -> str:
    """Return a span of time as people say it."""
    seconds = span.total_seconds()
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
