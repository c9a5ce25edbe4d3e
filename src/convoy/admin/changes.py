"""The JSON models of what changes in a federation: a word that something has, and how each site was."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from convoy.admin.views import Count, Name, Time, View
from convoy.control.presence import Standing

MAX_CHANGES: Final = 64  # of the standing of one site that a server remembers; the oldest go first


class StandingView(View):
    """How a site was from a time on (seconds since the epoch)."""

    at: Time
    standing: Standing


class SitePresence(View):
    """The last changes of a site's standing, oldest first. The first may be older than the 24 h that are remembered."""

    site: Name
    changes: Annotated[list[StandingView], Field(max_length=MAX_CHANGES)]


class PresenceView(View):
    """How each site was since the server started, at most the last 64 changes and 24 h; it remembers this in memory.

    `now` and `since` are the server's time and that of its start, in seconds since the epoch.
    """

    now: Time
    since: Time
    sites: list[SitePresence]


class ChangeView(View):
    """A word that something has changed which people may see: sites, jobs, people, problems or the audit trail.

    `number` counts such changes since the server started. An item with the same number as the one before says that
    the server is there. `at` is seconds since the epoch.
    """

    number: Count
    at: Time
