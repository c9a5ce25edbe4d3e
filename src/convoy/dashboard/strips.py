"""What the dashboard remembers of the last hour: how each site was, and how many there were of everything; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

SPAN_S: Final = 3600.0  # that a strip shows
THINNEST: Final = 6.0  # per mille that even a moment is wide, so that it can be seen
MAX_CHANGES: Final = 240  # of one site that are remembered; the oldest go first
MAX_COUNTS: Final = 1440  # one look in 2.5 s, for an hour

Standing = Literal["connected", "away", "disabled", "revoked", "unknown"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a strip: from `start` on, `width` long, both as per mille of the hour that ends now."""

    standing: Standing
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there were at a time (seconds since the epoch)."""

    at: float
    connected: int
    running: int
    waiting: int


@dataclass(slots=True)
class Hour:
    """The last hour as this process saw it. What happened while the dashboard was closed, nobody remembers here."""

    changes: dict[str, deque[tuple[float, Standing]]] = field(default_factory=dict)
    counts: deque[Counts] = field(default_factory=lambda: deque(maxlen=MAX_COUNTS))

    def note(self, at: float, standings: Mapping[str, Standing]) -> None:
        """Remember how the sites are; those that are not listed any more are forgotten."""
        for name in self.changes.keys() - standings.keys():
            del self.changes[name]
        for name, standing in standings.items():
            kept = self.changes.setdefault(name, deque(maxlen=MAX_CHANGES))
            if not kept or kept[-1][1] != standing:
                kept.append((at, standing))
            while len(kept) > 1 and kept[1][0] <= at - SPAN_S:
                kept.popleft()

    def lose(self, at: float) -> None:
        """Remember that from now on nobody knows how the sites are, because the server does not answer."""
        self.note(at, dict.fromkeys(self.changes, "unknown"))

    def count(self, counts: Counts) -> None:
        """Remember how many there were."""
        self.counts.append(counts)
        while self.counts[0].at < counts.at - SPAN_S:
            self.counts.popleft()

    def strip(self, name: str, now: float) -> list[Segment]:
        """Return the strip of a site, oldest first."""
        kept = list(self.changes.get(name, ()))
        found = []
        for place, (begun, standing) in enumerate(kept):
            ended = kept[place + 1][0] if place + 1 < len(kept) else now
            start = max(0.0, 1000 - (now - begun) / SPAN_S * 1000)
            end = 1000 - (now - ended) / SPAN_S * 1000
            if end > 0:
                width = max(end - start, THINNEST)
                found.append(Segment(standing, round(min(start, 1000 - width), 1), round(width, 1)))
        return found
