"""What has changed between two looks at the server, in sentences: a screen reader says them, and nothing else; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from convoy.dashboard.federation_state import Seen

MAX_SENTENCES: Final = 5  # that are said at once; the pages show everything


def news(before: Seen, now: Seen) -> str:
    """Return what a person should hear; empty if there is nothing, or nothing to compare with."""
    if not before.at:
        return ""
    found = [*_jobs(before, now), *_sites(before, now)]
    rest = len(found) - MAX_SENTENCES
    return " ".join([*found[:MAX_SENTENCES], *([f"And {rest} more changes."] if rest > 0 else [])])


def _jobs(before: Seen, now: Seen) -> Iterator[str]:
    known = {job.id: job.state for job in (*before.newest, *before.active)}
    listed = {job.id: job for job in (*now.active, *now.newest)}
    for job in listed.values():
        if job.id not in known:
            if job in now.newest:
                yield f"Job {job.name} was submitted."
        elif known[job.id] != job.state:
            yield f"Job {job.name} is {job.state}."


def _sites(before: Seen, now: Seen) -> Iterator[str]:
    known = {site.name: before.standing(site) for site in before.sites}
    for site in now.sites:
        standing = now.standing(site)
        if known.get(site.name, standing) != standing:
            yield f"Site {site.name} is {standing}."
