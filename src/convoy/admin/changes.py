"""The JSON models of what changes in a federation: a word that something has, and how each site was."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from convoy.admin.views import Count, Name, Time, View
from convoy.control.presence import Standing

MAX_CHANGES: Final = 64  # of the standing of one site that a server remembers; the oldest go first


class SitePresence(View):
    """The last changes of a site's standing, oldest first: from `at` on (seconds since the epoch) it was in `standing`.

    The first may be older than the 24 h that are remembered. Two lists, because thousands of pairs take long to read.
    """

    site: Name
    at: Annotated[list[Time], Field(max_length=MAX_CHANGES)]
    standing: Annotated[list[Standing], Field(max_length=MAX_CHANGES)]

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if len(self.at) != len(self.standing):
            raise ValueError("at and standing have different lengths")
        return self


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
