"""Login: an admin proves possession of its key by signing the server's nonce."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from convoy.errors import NotAllowed
from convoy.trust import authority, keys, peers

_PREFIX: Final = b"convoy login 1\n"  # a signature for one purpose is no good for another
MAX_CHARACTERS: Final = 16 << 10  # of a certificate or a signature; ours have some 2,000


def challenge_text(project: str, nonce: str) -> bytes:
    """Return the bytes that an admin signs to log in."""
    return _PREFIX + f"{project}\n{nonce}".encode()


def answer(key_pem: bytes, cert_pem: bytes, project: str, nonce: str) -> dict[str, str]:
    """Return what an admin sends: its certificate (PEM) and its signature (base64)."""
    signature = keys.sign(keys.from_pem(key_pem), challenge_text(project, nonce))
    return {"certificate": authority.shown(cert_pem), "signature": base64.b64encode(signature).decode()}


def check(answered: Mapping[str, str], *, root_pem: bytes, project: str, nonce: str, now: float) -> peers.Identity:
    """Return which admin answered. Raises `NotAllowed` for a wrong signature, certificate, project or kind.

    That the nonce is fresh and used once is for its maker to know.
    """
    certificate, signed = answered.get("certificate", ""), answered.get("signature", "")
    if len(certificate) > MAX_CHARACTERS or len(signed) > MAX_CHARACTERS:
        raise NotAllowed("the login is too large", why=f"at most {MAX_CHARACTERS:,} characters are read")
    try:
        cert_pem = certificate.encode()
        signature = base64.b64decode(signed, validate=True)
    except (ValueError, binascii.Error) as error:
        raise NotAllowed("the login cannot be read", why=str(error)) from error
    identity = peers.identity_of(cert_pem, root_pem, now=now, want=peers.ADMIN, name="the login's certificate")
    if identity.project != project:
        raise NotAllowed(f"the login is for {identity.project}", why=f"this is {project}")
    if not keys.signed_by(authority.read_certificate(cert_pem).public_key(), signature, challenge_text(project, nonce)):
        raise NotAllowed(
            f"the login of {identity.name} is not signed with the key of its certificate",
            why="or it answers a different challenge",
            fix="log in again with a complete kit",
        )
    return identity
