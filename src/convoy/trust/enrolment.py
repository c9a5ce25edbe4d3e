"""Enrolment: a join token, good once, turns a new key into a certificate; only the owner ever has the key."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from convoy.errors import BadInput, NotAllowed
from convoy.spec.kit import Kind

if TYPE_CHECKING:
    from convoy.trust.keys import PrivateKey, PublicKey

BACKDATE_S: Final = 60  # a certificate is good a minute before it was made: for peers whose clocks are behind
TOKEN_DAYS: Final = 14  # for a kit to reach its owner and be started for the first time
MAX_CSR: Final = 8 << 10  # bytes; one of ours has some 400
MAX_INVITES: Final = 4 << 20  # bytes of invites.json: some 20,000, as federation.json has participants
_TOKEN: Final = re.compile(r"convoy1\.[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Invite:
    """What a server knows of a join token: its hash, for whom it is, until when (seconds since the epoch)."""

    hash: str
    kind: Kind
    name: str
    expires_at: float


def make_token() -> str:
    """Return a new join token: 256 random bits."""
    return f"convoy1.{secrets.token_urlsafe(32)}"


def read_token(text: str) -> str:
    """Return the join token in a text. Raises `BadInput`, without saying the text."""
    found = text.strip()
    if _TOKEN.fullmatch(found) is None:
        raise BadInput(
            "this is not a join token",
            why="a join token has 51 characters and looks like convoy1.…",
            fix="copy the token again",
        )
    return found


def token_hash(token: str, *, project: str, kind: str, name: str) -> str:
    """Return what the server keeps of a token: for another project, kind or name it is another."""
    bound = f"convoy join 1\n{project}\n{kind}\n{name}\n{token}"
    return hashlib.sha256(bound.encode(errors="replace")).hexdigest()


def invite(token: str, *, project: str, kind: Kind, name: str, now: float) -> Invite:
    """Return what the server is to know of a new token."""
    return Invite(token_hash(token, project=project, kind=kind, name=name), kind, name, now + TOKEN_DAYS * 86400)


def invites_to_json(invites: Iterable[Invite]) -> bytes:
    """Return a server's invites.json."""
    return json.dumps([asdict(one) for one in invites], indent=1).encode() + b"\n"


def invites_from_json(data: bytes) -> list[Invite]:
    """Return what an invites.json says. Raises `BadInput`."""
    if len(data) > MAX_INVITES:
        raise BadInput("invites.json is too large", why=f"at most {MAX_INVITES:,} bytes are read")
    try:
        return [_invite(one) for one in json.loads(data)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput("invites.json cannot be read", why=str(error), fix="copy the server's kit again") from error


def _invite(said: dict[str, object]) -> Invite:
    hashed, kind, name, expires_at = said["hash"], said["kind"], said["name"], said["expires_at"]
    known = kind in ("site", "admin")
    if not (isinstance(hashed, str) and len(hashed) == 64 and known and isinstance(name, str)):
        raise ValueError("an invitation in it lacks a hash, kind or name")
    if not isinstance(expires_at, int | float):
        raise TypeError("an invitation in it does not say when it expires")
    return Invite(hashed, kind, name, float(expires_at))  # type: ignore[arg-type]


def request(key: PrivateKey) -> bytes:
    """Return a certificate request (PKCS 10, PEM) that says nothing but the public key, and proves the private one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def requested_key(pem: bytes) -> PublicKey:
    """Return the key that a request is for; whatever else it says counts for nothing. Raises `NotAllowed`."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    if len(pem) > MAX_CSR:
        raise NotAllowed("the certificate request is too large", why=f"at most {MAX_CSR:,} bytes are read")
    try:
        asked = x509.load_pem_x509_csr(pem)
        key = asked.public_key()
        fits = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        signed = fits and asked.is_signature_valid  # a signature of another key may take long to check
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise NotAllowed("the certificate request cannot be read", why=str(error).split("\n")[0]) from error
    if not fits or not isinstance(key, ec.EllipticCurvePublicKey):
        raise NotAllowed("the certificate request is not for a P-256 key")
    if not signed:
        raise NotAllowed("the certificate request is not signed with its own key")
    return key


def key_id(key: PublicKey) -> str:
    """Return a public key's own name, to know it again."""
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()
