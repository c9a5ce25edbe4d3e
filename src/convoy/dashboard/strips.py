"""What the dashboard remembers of the last hour: how each site was, and how many there were of everything; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from convoy.control.presence import Change, Presence, Standing

SPAN_S: Final = 3600.0  # that a strip shows
THINNEST: Final = 6.0  # per mille that even a moment is wide, so that it can be seen
MAX_CHANGES: Final = 240  # of one site that are remembered; the oldest go first
STEP_S: Final = 5.0  # that every other count is apart from the next but one
MAX_COUNTS: Final = 1440  # an hour of them


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
    """The last hour: of sites as the server remembers it, then as this process saw it; of counts as it saw them.

    `since` is from when on the server remembers, in seconds since the epoch.
    """

    presence: Presence = field(default_factory=lambda: Presence(SPAN_S, MAX_CHANGES))
    counts: deque[Counts] = field(default_factory=lambda: deque(maxlen=MAX_COUNTS))
    since: float = 0.0

    def note(self, at: float, standings: Mapping[str, Standing]) -> None:
        """Remember how the sites are; those that are not listed any more are forgotten."""
        self.presence.keep(standings)
        for name, standing in standings.items():
            self.presence.note(name, at, standing)

    def lose(self, at: float) -> None:
        """Remember that from now on nobody knows how the sites are, because the server does not answer."""
        self.note(at, dict.fromkeys(self.presence.changes, "unknown"))

    def learn(self, since: float, told: Iterable[tuple[str, Sequence[Change]]]) -> None:
        """Take over what the server remembers of each site, `since` when; of earlier times what was seen here stays."""
        self.since = since
        for name, changes in told:
            if changes:
                seen = [it for it in self.presence.changes.pop(name, ()) if it[0] < changes[0][0]]
                for at, standing in (*(seen or [(0.0, "unknown")]), *changes):
                    self.presence.note(name, at, standing)

    def known_since(self, now: float) -> float:
        """Return since when the server remembers, if a strip shows that moment; else 0."""
        return self.since if self.since > now - SPAN_S else 0.0

    def count(self, counts: Counts) -> None:
        """Remember how many there were; of counts within `STEP_S` the first and the newest."""
        if len(self.counts) > 1 and counts.at < self.counts[-2].at + STEP_S:
            self.counts.pop()
        self.counts.append(counts)
        while self.counts[0].at < counts.at - SPAN_S:
            self.counts.popleft()

    def strip(self, name: str, now: float) -> list[Segment]:
        """Return the strip of a site, oldest first; what follows a time that is drawn wider begins later."""
        kept = self.presence.of(name, now)
        found, drawn = [], 0.0
        for place, (begun, standing) in enumerate(kept):
            ended = kept[place + 1][0] if place + 1 < len(kept) else now
            start = max(drawn, 1000 - (now - begun) / SPAN_S * 1000)
            end = 1000 - (now - ended) / SPAN_S * 1000
            if end > 0:
                width = max(end - start, THINNEST)
                start = min(start, 1000 - width)
                drawn = start + width
                found.append(Segment(standing, round(start, 1), round(width, 1)))
        return found
