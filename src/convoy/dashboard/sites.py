"""Sites: the list of all, a page of each, and what may be done to one: enable, disable, stop, restart, revoke."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from convoy.admin.client import Client
from convoy.admin.views import SiteView
from convoy.dashboard import live, paging
from convoy.dashboard.federation_state import Seen
from convoy.dashboard.route import Call, Route
from convoy.errors import NotFound

PAGE: Final = 50  # sites on a page
STANDINGS: Final = ("connected", "away", "disabled", "revoked")


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that may be done to a site: the words on the button, what it means, the answer, and the call."""

    label: str
    question: str
    means: str
    done: str
    call: Callable[[Client, str], Awaitable[object]]
    severe: bool = False


VERBS: Final = {
    "enable": Verb(
        "Enable",
        "Enable {}?",
        "The site takes part in jobs again.",
        "The site is enabled.",
        lambda client, site: client.enable(site),
    ),
    "disable": Verb(
        "Disable",
        "Disable {}?",
        "The site is disconnected and takes part in no job until somebody enables it.",
        "The site is disabled.",
        lambda client, site: client.enable(site, enabled=False),
    ),
    "restart": Verb(
        "Restart",
        "Restart {}?",
        "The site's process stops in an orderly way and starts again. Its jobs continue.",
        "The site was told to restart.",
        lambda client, site: client.leave(site, restart=True),
    ),
    "stop": Verb(
        "Stop",
        "Stop {}?",
        "The site's process stops in an orderly way. Only its owner can start it again.",
        "The site was told to stop.",
        lambda client, site: client.leave(site, restart=False),
        severe=True,
    ),
    "revoke": Verb(
        "Revoke certificates",
        "Revoke the certificates of {}?",
        "All certificates of the site that were issued so far become invalid. The site is disconnected, and its "
        "answers in open rounds do not count. It needs a new invitation to come back.",
        "The site's certificates are revoked.",
        lambda client, site: client.revoke(site),
        severe=True,
    ),
}


async def sites(call: Call) -> Response:
    """Show a page of the list."""
    table = _table(call, call.services.federation_state.seen)
    template = "sites/_rows.html" if call.request.headers.get("hx-target") == "rows" else "sites.html"
    asked = _asked(call)
    return call.page(template, rows=table, search=asked["search"], standing=asked["standing"])


async def watch(call: Call) -> Response:
    """Push the list as it changes."""

    async def rows(seen: Seen) -> str:
        return _table(call, seen)

    return live.push(call, live.parts(call, {"rows": rows}))


def _asked(call: Call) -> dict[str, str]:
    """Return what the list was searched for."""
    wanted = call.query("standing")
    return {"search": call.query("search"), "standing": wanted if wanted in STANDINGS else ""}


def _table(call: Call, seen: Seen) -> str:
    asked = _asked(call)
    text = asked["search"].lower()
    found = [
        site
        for site in seen.sites
        if (text in site.name.lower() or text in site.org.lower())
        and (not asked["standing"] or seen.standing(site) == asked["standing"])
    ]
    page = paging.paged(call, found, PAGE, "/sites", keep=asked)
    now, hour = time.time(), call.services.federation_state.hour
    rows = [(site, seen.standing(site), hour.strip(site.name, now)) for site in page.rows]
    return call.text("sites/_table.html", rows=rows, page=page)


async def site(call: Call) -> Response:
    """Show one site."""
    found = await call.client.site(call.path("site"))
    listed = next((site for site in call.services.federation_state.seen.sites if site.name == found.name), found)
    done = VERBS.get(call.query("done"))
    verbs = _offered(call, found)
    return call.page("site.html", site=found, facts=_facts(call, listed), verbs=verbs, done=done.done if done else "")


async def watch_site(call: Call) -> Response:
    """Push the facts of one site as they change."""
    name = call.path("site")

    async def facts(seen: Seen) -> str:
        found = next((site for site in seen.sites if site.name == name), None)
        if found is None:
            raise NotFound(f"the site {name} is not listed any more", fix="go to the list of sites")
        return _facts(call, found)

    return live.push(call, live.parts(call, {"facts": facts}))


def _facts(call: Call, found: SiteView) -> str:
    now, hour, seen = time.time(), call.services.federation_state.hour, call.services.federation_state.seen
    shown = {"strip": hour.strip(found.name, now), "since": hour.known_since(now)}
    jobs = {job.name: job for job in reversed(seen.active)}  # of jobs with one name, the newest
    return call.text("site/_facts.html", site=found, standing=seen.standing(found), jobs=jobs, **shown)


def _offered(call: Call, found: SiteView) -> dict[str, Verb]:
    """Return what this person may do to the site, and what makes sense now."""
    if not call.may("operate_site", org=found.org):
        return {}
    useless = {"enable" if found.enabled else "disable"} | (set() if found.connected else {"restart", "stop"})
    return {name: verb for name, verb in VERBS.items() if name not in useless}


async def act(call: Call) -> Response:
    """Do something to a site, and show it again. Whether the person may do so, the server decides."""
    name, word = call.path("site"), call.path("verb")
    if word not in VERBS:
        raise NotFound(f"a site cannot be asked to {word[:40]!r}", fix="choose one of the buttons on its page")
    await VERBS[word].call(call.client, name)
    await call.services.federation_state.look()
    return RedirectResponse(f"/sites/{quote(name, safe='')}?done={word}", 303)


ROUTES: Final = (
    Route("GET", "/sites", sites),
    Route("GET", "/sites/live", watch),
    Route("GET", "/sites/{site}", site),
    Route("GET", "/sites/{site}/live", watch_site),
    Route("POST", "/sites/{site}/{verb}", act),
)
