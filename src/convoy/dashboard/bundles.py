"""Bundles that a person reads, kept while they read: each request for one is noted in the server's audit trail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from convoy.admin.client import Client
    from convoy.trust.bundle import Bundle

MAX_KEPT: Final = 2  # of at most 64 MiB each; the one that was read first goes


@dataclass(slots=True)
class Bundles:
    """The bundles that were read last, checked against their ids."""

    kept: dict[str, Bundle] = field(default_factory=dict)

    async def of(self, client: Client, job: str) -> Bundle:
        """Return the bundle of a job, as its submitter signed it."""
        found = self.kept.pop(job, None)
        if found is None:
            found = await client.bundle(job)
        self.kept[job] = found
        while len(self.kept) > MAX_KEPT:
            del self.kept[next(iter(self.kept))]
        return found
