"""How long a site's connection may last: it ends with its certificate, which is renewed after half its lifetime."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

import structlog

from convoy.server.hub import Line
from convoy.wire import convoy_pb2 as pb
from convoy.wire.tls import Peer

JITTER: Final = 0.1  # of half a lifetime, so that a thousand sites do not renew at once


def half_life_s(issued_at: float, ends_at: float, *, now: float) -> float:
    """Return the seconds until half of a certificate's lifetime is over, with jitter; 0 if it is."""
    half = (ends_at - issued_at) / 2 * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, no secret
    return max(issued_at + half - now, 0.0)


class Lease:
    """The timers of one connection."""

    def __init__(self, line: Line, peer: Peer) -> None:
        """Start with the certificate that the site showed when it connected."""
        self._line = line
        self._timers: list[asyncio.TimerHandle] = []
        self.extend(peer)

    def extend(self, peer: Peer) -> None:
        """Restart the timers for the site's new certificate."""
        self.end()
        loop, now = asyncio.get_running_loop(), time.time()
        self._line.certificate_ends_at, self._line.renews_at = peer.ends_at, 0.0
        self._timers.append(loop.call_later(max(peer.ends_at - now, 0.0), self._over))
        if peer.renews:
            wait_s = half_life_s(peer.issued_at, peer.ends_at, now=now)
            self._line.renews_at = now + wait_s
            self._timers.append(loop.call_later(wait_s, self._line.send, pb.Down(renew=pb.Renew())))

    def end(self) -> None:
        """Stop the timers."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _over(self) -> None:
        structlog.get_logger().warning("a site's certificate expired and was not renewed", site=self._line.site)
        self._line.hang_up()
