"""Whether a site may act now: checked again for each connection, each message and each certificate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from convoy.control.records import SiteName
from convoy.control.view import ReadOnlyState
from convoy.errors import NotAllowed
from convoy.trust.federation import Membership
from convoy.wire.tls import Peer

T = TypeVar("T")


@dataclass(slots=True)
class Standing:
    """The site of one connection. It stores the certificate's content, but no result of an earlier check."""

    state: ReadOnlyState
    membership: Membership
    peer: Peer

    def act(self, effect: Callable[[], T]) -> T:
        """Check, then call `effect` in the same step: it is a plain function, so no await comes in between."""
        self.check()
        return effect()

    def check(self) -> None:
        """Raise `NotAllowed` unless this site may act now."""
        site, again = self.peer.name, f"ask for a new invitation: convoy site invite {self.peer.name}"
        known = self.state.sites.get(SiteName(site))
        if known is None or not known.listed:
            fix = "add it to project.yml, then: convoy federation publish"
            raise NotAllowed(f"{site} is not a site of this federation", fix=fix)
        if not known.enabled:
            raise NotAllowed(f"{site} is disabled", fix=f"an admin can run `convoy site enable {site}`")
        self.membership.check_certified(site, self.peer.issued_at)
        if self.peer.ends_at <= time.time():  # it was valid when this connection was opened
            raise NotAllowed(f"the certificate of {site} has expired", fix=again)
