"""How a participant gets its certificate: it makes a key, and uses a join token, a login or the root key."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Final

from convoy.admin import link, parsing
from convoy.errors import RemoteFault, Unreachable
from convoy.spec.kit import PENDING, Kit
from convoy.trust import authority, enrolment, keys, peers
from convoy.wire.backoff import PATIENCE_S, Backoff, Patience

LONGEST_S: Final = 0.5  # between two attempts: a first start is often that of a whole federation


async def enrol(kit: Kit, *, server: str = "", token: str = "", patience_s: float = PATIENCE_S) -> None:
    """Get a kit's certificate for a join token: the one given, or the kit's own.

    Raises `NotAllowed` for a token that is not valid any more, `Unreachable` when the patience has run out.
    """
    text = enrolment.read_token(token or kit.token_file.read_text())
    key = pending(kit)
    ask = {"kind": kit.kind, "name": kit.name, "token": text, "request": enrolment.request(key).decode()}
    wire = link.Link(*link.address(server, kit), kit.root_file.read_bytes())
    try:
        said = await _asked(wire, ask, Patience(patience_s, Backoff(LONGEST_S)))
    finally:
        await wire.close()
    take(kit, key, said)


async def renew(kit: Kit, certified: Callable[[str], Awaitable[str]]) -> None:
    """Get a certificate for a new key of a kit; `certified` returns the certificate for a request."""
    key = pending(kit)
    take(kit, key, await certified(enrolment.request(key).decode()))


def renew_here(kit: Kit, root: authority.Authority) -> None:
    """Certify a new key with the root key, on the machine that has it."""
    key = pending(kit)
    take(kit, key, root.certify(kit.kind, kit.name, key.public_key(), now=time.time()).decode())


def is_due(cert_pem: bytes, root_pem: bytes, *, now: float) -> bool:
    """Return whether half of a certificate's lifetime is over, or its root is not the one that signs now.

    A certificate that a root itself signed is not renewed.
    """
    cert, *issuing = authority.read_chain(cert_pem)
    if not issuing:
        return False
    made, over = cert.not_valid_before_utc.timestamp(), cert.not_valid_after_utc.timestamp()
    half_over = made + enrolment.BACKDATE_S + over < 2 * now
    return half_over or not peers.signed(issuing[0], authority.read_chain(root_pem)[0])


def pending(kit: Kit) -> keys.PrivateKey:
    """Return the key that is to be certified: kept until it is, so that a lost answer costs no token."""
    file = kit.work / PENDING
    if file.exists():
        return keys.load(file)
    kit.work.mkdir(mode=0o700, exist_ok=True)
    key = keys.make()
    keys.save(file, keys.to_pem(key))
    return key


def take(kit: Kit, key: keys.PrivateKey, certificate: str) -> None:
    """Keep a key and its certificate. Raises `RemoteFault` for a certificate of another key or name."""
    pem = certificate.encode()
    wanted = peers.Identity(kit.project, kit.kind, kit.name)
    who = peers.identity_of(pem, kit.root_file.read_bytes(), now=time.time(), name="the new certificate")
    if who != wanted or authority.read_certificate(pem).public_key() != key.public_key():
        raise RemoteFault("the server certified something else", why=f"asked for {kit.name}, got {who.name}")
    keys.save(kit.identity_file, keys.to_pem(key) + pem)
    (kit.work / PENDING).unlink(missing_ok=True)


async def _asked(wire: link.Link, ask: dict[str, str], patience: Patience) -> str:
    while True:
        try:
            said = await wire.ask("POST", f"{link.V1}/enrol", content=json.dumps(ask).encode())
            return parsing.text(said, "certificate", parsing.PEM)
        except Unreachable as problem:
            await patience.wait(problem)
