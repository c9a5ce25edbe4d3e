"""Reads lists that a server sends: jobs, rounds, sites, problems, records of the audit trail, people, invitations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode

from convoy.admin import link, parsing
from convoy.errors import RemoteFault

if TYPE_CHECKING:
    from convoy.admin import views
    from convoy.admin.changes import PresenceView
    from convoy.trust import audit

PAGE: Final = 500  # jobs or rounds in one request
MAX_JOBS: Final = 1_000_000  # that one list may have


class Ask(Protocol):
    """The client's method to get JSON."""

    async def __call__(self, method: str, path: str) -> bytes:
        """Return the JSON text of an answer."""
        ...


async def jobs(ask: Ask, begins: str, count: int) -> list[views.JobView]:
    """Return the jobs whose name or id begins with `begins`, newest first; at most `count` (0: all)."""
    from convoy.admin import views

    found: list[views.JobView] = []
    after, most = "", count or MAX_JOBS
    while len(found) < most:
        asked = {"begins": begins, "after": after, "limit": min(most - len(found), PAGE)}
        page = parsing.one(views.JobPage, await ask("GET", f"/jobs?{_query(asked)}"))
        found += page.jobs
        if not page.next or (page.jobs and count and len(found) >= count):
            return found[:most]
        if not page.jobs or page.next == after:
            raise RemoteFault("the server's list of jobs does not end")
        after = page.next
    raise RemoteFault(f"the server lists more than {MAX_JOBS:,} jobs")


async def job_page(ask: Ask, begins: str, after: str, limit: int) -> views.JobPage:
    """Return the jobs after one of them, newest first, whose name or id begins with `begins`."""
    from convoy.admin import views

    asked = {"begins": begins, "after": after, "limit": min(limit, PAGE)}
    return parsing.one(views.JobPage, await ask("GET", f"/jobs?{_query(asked)}"))


async def meant(ask: Ask, text: str) -> list[views.JobView]:
    """Return jobs that a person may mean by a text, those that have not ended first."""
    from convoy.admin import views

    return parsing.one(views.JobPage, await ask("GET", f"/jobs?{_query({'meant': text})}")).jobs


async def round_page(ask: Ask, job: str, after: int, limit: int, sites: Sequence[str] = ()) -> views.RoundPage:
    """Return at most `limit` rounds of a job after a number, in their order; each with these sites or the first 100."""
    from convoy.admin import views

    asked = {"after": after, "limit": min(limit, PAGE), "sites": ",".join(sites)}
    path = f"{link.path('jobs', job, 'rounds')}?{_query(asked)}"
    return parsing.one(views.RoundPage, await ask("GET", path))


async def rounds(ask: Ask, job: str, after: int) -> AsyncGenerator[views.RoundView, None]:
    """Yield the rounds of a job after a number, in their order."""
    more = True
    while more:
        page = await round_page(ask, job, after, PAGE)
        for made in page.rounds:
            if made.round <= after:
                raise RemoteFault(f"the server's list of rounds continues from {after} with {made.round}")
            after = made.round
            yield made
        more = page.more and bool(page.rounds)


async def round(ask: Ask, path: str, number: int) -> views.RoundView:  # noqa: A001 - the field's name
    """Return one round with all of its sites."""
    from convoy.admin import views

    made = parsing.one(views.RoundView, await ask("GET", path))
    parsing.same("the round", str(made.round), str(number))
    return made


async def records(ask: Ask, wanted: audit.Search, before: int, limit: int) -> views.AuditPage:
    """Return records of the audit trail that fit, newest first."""
    from convoy.admin import views

    usual = type(wanted)()
    said = {name: value for name, value in asdict(wanted).items() if value != getattr(usual, name)}
    asked = said | {"before": before or "", "limit": min(limit, PAGE)}
    return parsing.one(views.AuditPage, await ask("GET", f"/audit/records?{_query(asked)}"))


async def sites(ask: Ask) -> list[views.SiteView]:
    """Return every site, by name."""
    from convoy.admin import views

    return parsing.each(views.SiteView, await ask("GET", "/sites"))


async def site(ask: Ask, method: str, name: str, *verb: str) -> views.SiteView:
    """Return a site, after something was done to it if `verb` says so."""
    from convoy.admin import views

    found = parsing.one(views.SiteView, await ask(method, link.path("sites", name, *verb)))
    parsing.same("the site", found.name, name)
    return found


async def presence(ask: Ask) -> PresenceView:
    """Return how each site was since the server started."""
    from convoy.admin.changes import PresenceView

    return parsing.one(PresenceView, await ask("GET", "/presence"))


async def problems(ask: Ask, count: int) -> list[views.LogLine]:
    """Return the newest warnings and errors of the server, oldest first."""
    from convoy.admin import views

    return parsing.each(views.LogLine, await ask("GET", f"/problems?count={count}"))


async def people(ask: Ask) -> list[views.AdminView]:
    """Return everybody who may log in."""
    from convoy.admin import views

    return parsing.each(views.AdminView, await ask("GET", "/people"))


async def invites(ask: Ask) -> list[views.InviteView]:
    """Return the join tokens that can be used, and those that were used."""
    from convoy.admin import views

    return parsing.each(views.InviteView, await ask("GET", "/invites"))


def _query(asked: dict[str, Any]) -> str:
    return urlencode({name: value for name, value in asked.items() if value != ""})
