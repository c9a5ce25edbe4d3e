"""The server's own certificate: made at the start, and renewed with a new key after half its lifetime."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final

import structlog

from convoy import errors
from convoy.errors import ConvoyError
from convoy.server.lease import half_life_s
from convoy.spec.kit import Kit
from convoy.trust import keys
from convoy.trust.authority import DAY_S
from convoy.trust.issuing import Issuing
from convoy.wire import tls

WARN_DAYS: Final = 22.5  # a quarter of an issuing authority's lifetime
AGAIN: Final = 0.05  # of a certificate's lifetime, after which a failed renewal is tried again


class Identity:
    """Keeps the certificates in the TLS contexts of both ports up to date."""

    def __init__(self, kit: Kit, issuing: Issuing, life_s: float) -> None:
        """Make the first key and certificate. Raises `BadInput` once the issuing authority has expired."""
        self._kit, self._issuing, self._life_s = kit, issuing, life_s
        self._sites: ssl.SSLContext | None = None
        self._people: ssl.SSLContext | None = None
        self._timer: asyncio.TimerHandle | None = None
        make(kit, issuing)

    def for_sites(self) -> ssl.SSLContext:
        """Return the TLS context for sites, with the current roots and certificate."""
        if self._sites is None:
            self._sites = tls.server_context(self._kit)
        return self._sites

    def keep_fresh(self, people: ssl.SSLContext | None) -> None:
        """Start to renew, also in the TLS context for people."""
        self._people = people
        self._arm(self._half_life_s())

    def trust_anew(self) -> None:
        """Use the roots of the current federation.json."""
        self._sites = None

    def renew(self) -> None:
        """Renew now and after half of each lifetime; a failed renewal is tried again before the certificate expires."""
        try:
            make(self._kit, self._issuing)
        except ConvoyError as problem:
            structlog.get_logger().error("the server's certificate was not renewed", reason=errors.line(problem))
            self._arm(AGAIN * self._life_s)
            return
        self._sites = None
        if self._people is not None:
            self._people.load_cert_chain(self._kit.identity_file)
        structlog.get_logger().info("the server's certificate is new")
        self._arm(self._half_life_s())

    def end(self) -> None:
        """Stop renewing."""
        if self._timer is not None:
            self._timer.cancel()

    def _half_life_s(self) -> float:
        now = time.time()
        return half_life_s(now, now + self._life_s, now=now)

    def _arm(self, wait_s: float) -> None:
        self.end()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.renew)


def make(kit: Kit, issuing: Issuing) -> None:
    """Write a new key and certificate of a server; only the public key leaves this process."""
    now = time.time()
    left = (issuing.cert.not_valid_after_utc.timestamp() - now) / DAY_S
    if left < WARN_DAYS:
        fix = "run `convoy federation issue` on the machine with the root key"
        structlog.get_logger().warning(f"the issuing authority expires in {left:.1f} days: {fix}")
    key = keys.make()
    chain_pem = issuing.certify("server", kit.name, key.public_key(), now=now)
    keys.save(kit.identity_file, keys.to_pem(key) + chain_pem)
