"""The server's own certificate: it makes a key, certifies it, and does so again at half its life, without a restart."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final

import structlog

from convoy.server.lease import half_life_s
from convoy.spec.kit import Kit
from convoy.trust import keys
from convoy.trust.authority import Authority

DAY_S: Final = 86400.0
WARN_DAYS: Final = 22.5  # a quarter of an issuing authority's life


class Identity:
    """Keeps the certificates of TLS contexts fresh."""

    def __init__(self, kit: Kit, issuing: Authority, life_s: float) -> None:
        """Make the first key and certificate. Raises `BadInput` once the issuing authority has expired."""
        self._kit, self._issuing, self._life_s = kit, issuing, life_s
        self._contexts: list[ssl.SSLContext] = []
        self._timer: asyncio.TimerHandle | None = None
        make(kit, issuing, life_s)

    def keep_fresh(self, *contexts: ssl.SSLContext) -> None:
        """Give these contexts each new certificate, from now on."""
        self._contexts += contexts
        now = time.time()
        wait_s = half_life_s(now, now + self._life_s, now=now)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._renew)

    def end(self) -> None:
        """Renew no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _renew(self) -> None:
        make(self._kit, self._issuing, self._life_s)
        for context in self._contexts:
            context.load_cert_chain(self._kit.identity_file)
        structlog.get_logger().info("the server's certificate is new")
        self.keep_fresh()


def make(kit: Kit, issuing: Authority, life_s: float) -> None:
    """Write a new key and certificate of a server."""
    now = time.time()
    left = (issuing.cert.not_valid_after_utc.timestamp() - now) / DAY_S
    if left < WARN_DAYS:
        fix = "provision anew, and give the server its new kit"
        structlog.get_logger().warning(f"the issuing authority is over in {left:.1f} days: {fix}")
    key_pem, chain_pem = issuing.issue("server", kit.name, now=now, hosts=kit.hosts, days=life_s / DAY_S)
    keys.save(kit.identity_file, key_pem + chain_pem)
