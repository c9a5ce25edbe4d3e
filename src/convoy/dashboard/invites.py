"""Invitations: a join token is made here, shown once, and only its hash is sent to the server."""

from __future__ import annotations

import shlex
import time
from typing import Any, Final, Literal

from starlette.responses import Response

from convoy.admin.views import InviteView
from convoy.dashboard.route import Call, Route
from convoy.errors import BadInput
from convoy.spec import names
from convoy.trust import enrolment

KINDS: Final[tuple[Literal["site", "admin"], ...]] = ("site", "admin")
MAX_OFFERED: Final = 1000  # names that the form offers; any other may be typed
MAX_SHOWN: Final = 200  # invitations in the list


async def form(call: Call) -> Response:
    """Show the form, and the invitations that the server knows."""
    return await _page(call, _kind(call.query("kind")), name=call.query("name"))


async def invite(call: Call) -> Response:
    """Make an invitation for somebody whom federation.json lists; else say which command lists them."""
    kind, name = _kind(call.form.get("kind", "")), call.form.get("name", "").strip()
    org = call.form.get("org", "").strip()
    known = (await call.client.who_is_who()).participants.get(name)
    if known is None:
        return await _page(call, kind, name=name, command=_listing(kind, name, org), said="unlisted")
    if known.kind != kind:
        raise BadInput(f"{name} is a {known.kind} of this federation", fix="choose another name")
    token, now = enrolment.make_token(), time.time()
    made = enrolment.invite(token, project=call.client.project, kind=kind, name=name, now=now)
    await call.client.invite(made.hash, kind, name, made.expires_at)
    command = shlex.join(["convoy", "kit", "enrol", "KIT", "--token", token])
    return await _page(call, kind, name=name, command=command, said="invited", ends_at=made.expires_at)


def _kind(text: str) -> Literal["site", "admin"]:
    return "admin" if text == "admin" else "site"


def _listing(kind: str, name: str, org: str) -> str:
    """Return the command that lists and invites somebody new. Raises `BadInput` for a name that nobody may have."""
    try:
        (names.site if kind == "site" else names.person)(name)
        names.org(org or "ORG")
    except ValueError as wanted:
        raise BadInput(f"{name[:80]!r} of {org[:80]!r} cannot be invited", why=f"wanted {wanted}") from wanted
    if kind == "site":
        return shlex.join(["convoy", "site", "invite", name, "--org", org or "ORG"])
    return shlex.join(["convoy", "kit", "invite", name])


async def _page(call: Call, kind: Literal["site", "admin"], **values: Any) -> Response:
    """Return the page; what was made is in it once, and nowhere else."""
    people = await call.client.who_is_who()
    listed = sorted(name for name, who in people.participants.items() if who.kind == kind)
    found = await call.client.invites()
    rows = [(it, _state(it)) for it in found if it.kind == kind][:MAX_SHOWN]
    shown: dict[str, Any] = {"name": "", "command": "", "said": "", "ends_at": 0.0} | values
    return call.page("invite.html", kind=kind, listed=listed[:MAX_OFFERED], rows=rows, **shown)


def _state(found: InviteView) -> str:
    return "used" if found.used_at else "open"


ROUTES: Final = (
    Route("GET", "/invite", form),
    Route("POST", "/invite", invite),
)
