"""How sites were: the last changes of each one's standing, bounded in number and in age; pure, and in memory alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal

LEAVES_S: Final = 10.0  # within which a site that was revoked is disconnected, and then seen for the last time

Standing = Literal["connected", "away", "disabled", "revoked", "unknown"]
Change = tuple[float, Standing]  # from when on, in seconds since the epoch, and how


def standing(*, enabled: bool, connected: bool, seen_at: float, revoked_at: float) -> Standing:
    """Return in one word how a site is; times are seconds since the epoch, 0: never."""
    if not enabled:
        return "disabled"
    if connected:
        return "connected"
    return "revoked" if 0 < revoked_at > seen_at - LEAVES_S else "away"


@dataclass(slots=True)
class Presence:
    """The changes of each site's standing within `span_s`, and the one before them; at most `most` of each site.

    The oldest are forgotten first, so a site that changes all the time takes no more memory than another.
    """

    span_s: float
    most: int
    changes: dict[str, deque[Change]] = field(default_factory=dict)

    def note(self, site: str, at: float, now: Standing) -> None:
        """Remember how a site is from a time on."""
        kept = self.changes.setdefault(site, deque(maxlen=self.most))
        if not kept or kept[-1][1] != now:
            kept.append((at, now))

    def keep(self, sites: Collection[str]) -> None:
        """Forget all other sites."""
        for site in self.changes.keys() - set(sites):
            del self.changes[site]

    def of(self, site: str, at: float) -> list[Change]:
        """Return the changes of a site, oldest first: the one that was in force `span_s` before `at`, and later ones.

        Forgets older ones.
        """
        kept = self.changes.get(site, deque())
        while len(kept) > 1 and kept[1][0] <= at - self.span_s:
            kept.popleft()
        return list(kept)
