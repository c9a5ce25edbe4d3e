"""Keeps how each site was since the server started, from what the state machine decided about; in memory alone."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from convoy.admin.changes import MAX_CHANGES, PresenceView, SitePresence
from convoy.control import effects, events, presence
from convoy.control.clock import Now
from convoy.control.presence import Presence
from convoy.control.records import SiteName
from convoy.control.view import ReadOnlyState
from convoy.trust.federation import Membership

SPAN_S: Final = 86400.0  # how long changes are remembered


@dataclass(slots=True)
class Attendance:
    """How the sites of federation.json were, `since` the server started (wall seconds)."""

    state: ReadOnlyState
    membership: Membership
    since: float = field(default_factory=time.time)
    known: Presence = field(default_factory=lambda: Presence(SPAN_S, MAX_CHANGES))

    def __post_init__(self) -> None:
        """Begin with how the sites are."""
        self._list(self.since)

    def decided(self, event: events.Event, _found: Iterable[effects.Effect], now: Now) -> None:
        """Note what a decision of the machine has changed."""
        match event:
            case events.SiteJoined() | events.SiteLeft() | events.SiteSwitched() | events.SiteRevoked():
                self._note(event.site, now.wall)
            case events.SitesListed():
                self._list(now.wall)

    def _list(self, at: float) -> None:
        listed = [name for name, site in self.state.sites.items() if site.listed]
        self.known.keep(listed)
        for name in listed:
            self._note(name, at)

    def _note(self, name: SiteName, at: float) -> None:
        site = self.state.sites[name]
        if site.listed:
            revoked_at = self.membership.revoked.get(name, 0.0)
            how = presence.standing(
                enabled=site.enabled, connected=site.connected, seen_at=site.seen_at, revoked_at=revoked_at
            )
            self.known.note(name, at, how)

    def view(self) -> PresenceView:
        """Return what is known, by site."""
        now = time.time()
        sites = []
        for name in sorted(self.known.changes):
            changes = self.known.of(name, now)
            sites.append(SitePresence(site=name, at=[at for at, _ in changes], standing=[how for _, how in changes]))
        return PresenceView(now=now, since=self.since, sites=sites)
