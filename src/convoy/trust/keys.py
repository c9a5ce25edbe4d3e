"""Private keys: P-256, kept in files that only their owner may read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from convoy.errors import BadInput
from convoy.trust.files import write

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey
_HASH: Final = ec.ECDSA(hashes.SHA256())


def make() -> PrivateKey:
    """Return a new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def to_pem(key: PrivateKey) -> bytes:
    """Return a key as unencrypted PKCS 8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def from_pem(pem: bytes, *, name: str = "the key") -> PrivateKey:
    """Return the key in `pem`. Raises `BadInput`, naming the key, for anything but a P-256 key."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(f"{name} is not a private key that can be read", why=str(error).split("\n")[0]) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInput(f"{name} is not a P-256 key", fix="`convoy provision` makes the right keys")
    return key


def load(path: Path) -> PrivateKey:
    """Return the key in a file. Raises `BadInput`."""
    try:
        return from_pem(path.read_bytes(), name=str(path))
    except OSError as error:
        raise BadInput("cannot be read", why=error.strerror or "", where=str(path)) from error


def save(path: Path, pem: bytes) -> None:
    """Write a private key to a file of mode 0600, all or nothing, and onto the disk."""
    write(path, pem, mode=0o600)


def sign(key: PrivateKey, text: bytes) -> bytes:
    """Return an ECDSA signature (SHA-256, DER) over `text`."""
    return key.sign(text, _HASH)


def signed_by(key: object, signature: bytes, text: bytes) -> bool:
    """Return whether `signature` over `text` is that of the holder of the public `key`."""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, text, _HASH)
    except InvalidSignature:
        return False
    return True
