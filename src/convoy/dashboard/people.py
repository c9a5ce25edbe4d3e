"""People and rights: everyone of federation.json, what each role may do, who is revoked, one's own login."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from starlette.responses import RedirectResponse, Response

from convoy.admin.views import AdminView
from convoy.control import rights
from convoy.dashboard import live
from convoy.dashboard.route import Call, Route
from convoy.errors import NotFound
from convoy.trust import authority, enrolment
from convoy.trust.federation import Federation

PAGE: Final = 50  # people on a page
MAX_PAGE: Final = 1000  # the highest number of a page that may be asked for
WORDS: Final[Mapping[str, str]] = {  # each right as a person reads it
    "observe": "See sites, the server's state and its problems",
    "view": "See jobs, their rounds and metrics",
    "submit": "Submit jobs",
    "logs": "Read what jobs print, and their live metrics",
    "download": "Download models and other results",
    "clone": "Read and copy the code of jobs",
    "abort": "Abort jobs",
    "delete": "Delete ended jobs and their results",
    "operate_site": "Enable, disable, restart, stop and revoke sites",
    "invite": "Invite sites and people",
    "operate_server": "Restart and stop the server; revoke people",
    "audit": "Read the audit trail",
}
OF_JOBS: Final = frozenset({"logs", "download", "clone", "abort", "delete"})


@dataclass(frozen=True, slots=True)
class Login:
    """One's own certificate; times are seconds since the epoch. `renews_at` is 0 for one that is not renewed."""

    began_at: float
    ends_at: float
    renews_at: float


async def people(call: Call) -> Response:
    """Show everybody, the table of rights, and one's own login."""
    known = await call.client.who_is_who()
    found = _found(known, await call.client.people(), call.query("search"))
    pages = max(1, -(-len(found) // PAGE))
    number = min(call.number("page", 1, MAX_PAGE), pages)
    given = {"search": search} if (search := call.query("search")) else {}
    return call.page(
        "people.html",
        federation=known,
        rows=found[(number - 1) * PAGE : number * PAGE],
        found=len(found),
        number=number,
        pages=pages,
        before=f"/people?{urlencode(given | {'page': number - 1})}" if number > 1 else "",
        next=f"/people?{urlencode(given | {'page': number + 1})}" if number < pages else "",
        search=search,
        login=login(call.client.cert_pem),
        roles=rights.ROLES,
        table=table(),
        done=call.query("done"),
    )


async def watch(call: Call) -> Response:
    """Push only whether the server answers, and whether one is still who one was."""
    return live.push(call, live.parts(call, {}))


def _found(known: Federation, listed: list[AdminView], search: str) -> list[AdminView]:
    """Return people of federation.json, as its root signed it; the server says only up to when they are revoked."""
    revoked = {person.name: person.revoked_at for person in listed}
    everybody = [
        AdminView(name=name, org=who.org, role=who.role, revoked_at=revoked.get(name, 0.0))
        for name, who in sorted(known.participants.items())
        if who.kind == "admin"
    ]
    text = search.lower()
    return [one for one in everybody if any(text in said.lower() for said in (one.name, one.org, one.role))]


def login(cert_pem: bytes) -> Login:
    """Return from when until when a person's certificate is valid, and from when on a login renews it."""
    cert, *issuing = authority.read_chain(cert_pem)
    began = cert.not_valid_before_utc.timestamp() + enrolment.BACKDATE_S
    ends = cert.not_valid_after_utc.timestamp()
    return Login(began, ends, (began + ends) / 2 if issuing else 0.0)


def table() -> list[tuple[str, list[str]]]:
    """Return each right in words, with how far it reaches for each role."""
    return [(WORDS[right], [_reach(role, right) for role in rights.ROLES]) for right in rights.RIGHTS]


def _reach(role: str, right: str) -> str:
    """Return in words how far a right reaches."""
    things = "jobs" if right in OF_JOBS else "sites"
    reach = rights.reach(role, right)
    if reach == "any":
        return f"all {things}" if right in OF_JOBS or right == "operate_site" else "yes"
    return {"none": "", "own": f"their own {things}", "org": f"their organisation's {things}"}[reach]


async def revoke(call: Call) -> Response:
    """Revoke a person's certificates. Whether the caller may do so, the server decides."""
    name = call.path("name")
    await call.client.revoke_admin(name)
    return RedirectResponse(f"/people?{urlencode({'search': name, 'done': name})}", 303)


async def ask(call: Call) -> Response:
    """Ask whether a person is to be revoked; a page of its own, so that a long list has no dialog in each row."""
    name = call.path("name")
    who = (await call.client.who_is_who()).participants.get(name)
    if who is None or who.kind != "admin":
        raise NotFound(f"federation.json lists no person {name[:200]!r}", fix="go to the list of people")
    me = call.services.federation_state.seen.person
    return call.page(
        "people/revoke.html",
        name=name,
        who=who,
        action=f"/people/{quote(name, safe='')}/revoke",
        myself=me is not None and me.name == name,
    )


ROUTES: Final = (
    Route("GET", "/people", people),
    Route("GET", "/people/live", watch),
    Route("GET", "/people/{name}/revoke", ask),
    Route("POST", "/people/{name}/revoke", revoke),
)
