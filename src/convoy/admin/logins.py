"""Logins of the REST API: single-use nonces, proof of a key, short-lived bearer tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from convoy.admin.faults import LoginNeeded
from convoy.admin.port import Person
from convoy.errors import NotAllowed
from convoy.trust import login
from convoy.trust.federation import Membership

NONCE_S: Final = 60.0  # to sign a nonce and send it back
BEARER_S: Final = 1800.0  # after that a program logs in again by itself
MAX_BEARERS: Final = 256  # bearer tokens of one person; one more removes the oldest


@dataclass(slots=True)
class Bearer:
    """A token's hash, whose it is, when it ends (monotonic seconds), and the age of the certificate behind it.

    A token that was `lent` is one of a process of this server, which no certificate stands behind.
    """

    digest: bytes
    person: str
    ends_at: float
    issued_at: float
    logged_out: bool = False
    lent: Person | None = None


@dataclass(slots=True)
class Logins:
    """Identifies callers. Stores the hashes of bearer tokens and recently used nonces; nothing for unknown callers."""

    membership: Membership
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    bearer_s: float = BEARER_S
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _used: dict[str, float] = field(default_factory=dict)
    _bearers: dict[bytes, Bearer] = field(default_factory=dict)

    def nonce(self) -> str:
        """Return a nonce for one login within a minute; it contains its expiry and a proof, so nothing is stored."""
        body = secrets.token_bytes(16) + struct.pack("<d", self.clock() + NONCE_S)
        return base64.urlsafe_b64encode(body + self._sealed(body)).decode()

    def log_in(self, nonce: str, certificate: str, signature: str) -> tuple[str, Person]:
        """Return a bearer for whoever holds the certificate's key; raises `NotAllowed` otherwise."""
        ends_at = self._ends_at(nonce)
        now = self.clock()
        self._used = {old: end for old, end in self._used.items() if end > now}
        if ends_at <= now or nonce in self._used:
            raise NotAllowed(
                "this login came too late or twice", why="a nonce is valid once, for 60 s", fix="log in again"
            )
        answer = {"certificate": certificate, "signature": signature}
        project = self.membership.now.project
        who = login.check(answer, project=project, nonce=nonce, root_pem=self.membership.root_pem, now=self.wall())
        person = self._person(who.name)
        self.membership.check_certified(who.name, who.issued_at)
        self._used[nonce] = ends_at
        token = secrets.token_urlsafe(32)
        self._keep(Bearer(_hash(token), person.name, now + self.bearer_s, who.issued_at), now)
        return token, person

    def lend(self, service: Person) -> str:
        """Return a bearer token for a process of this server; it is valid for as long as the server runs."""
        token = secrets.token_urlsafe(32)
        self._keep(Bearer(_hash(token), service.name, math.inf, 0.0, lent=service), self.clock())
        return token

    def bearer(self, authorization: str) -> Bearer:
        """Return the bearer that an Authorization header holds; raises `LoginNeeded`."""
        scheme, _, token = authorization.partition(" ")
        bearer = self._bearers.get(_hash(token.strip())) if scheme.lower() == "bearer" else None
        if bearer is None or bearer.ends_at <= self.clock():
            raise LoginNeeded(
                "you are not logged in", why="the bearer token is missing, unknown or expired", fix="log in again"
            )
        return bearer

    def who(self, bearer: Bearer) -> Person:
        """Return the person of a bearer token. A stream may outlive its token, but not a logout or a revocation.

        Raises `LoginNeeded`, `NotAllowed`.
        """
        if bearer.logged_out:
            raise LoginNeeded("you are not logged in", why="you have logged out", fix="log in again")
        if bearer.lent is not None:
            return bearer.lent
        self.membership.check_certified(bearer.person, bearer.issued_at)
        return self._person(bearer.person)

    def log_out(self, bearer: Bearer) -> None:
        """Invalidate a bearer token."""
        bearer.logged_out = True
        self._bearers.pop(bearer.digest, None)

    def _person(self, name: str) -> Person:
        """Return the person as federation.json has them now, so that a changed role counts at once."""
        known = self.membership.now.person(name)
        return Person(name=name, org=known.org, role=known.role)

    def _keep(self, bearer: Bearer, now: float) -> None:
        for over in [old.digest for old in self._bearers.values() if old.ends_at <= now]:
            del self._bearers[over]
        theirs = [old.digest for old in self._bearers.values() if old.person == bearer.person]
        for oldest in theirs[: max(len(theirs) - MAX_BEARERS + 1, 0)]:
            del self._bearers[oldest]
        self._bearers[bearer.digest] = bearer

    def _sealed(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, body, "sha256")[:16]

    def _ends_at(self, nonce: str) -> float:
        """Return when a nonce of ours ends; raises `NotAllowed` for a nonce that we did not make."""
        try:
            raw = base64.b64decode(nonce, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        body, seal = raw[:24], raw[24:]
        if len(raw) != 40 or not hmac.compare_digest(seal, self._sealed(body)):
            raise NotAllowed("this nonce is not from this server", why="it may have restarted", fix="log in again")
        return float(struct.unpack("<d", body[16:])[0])


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
