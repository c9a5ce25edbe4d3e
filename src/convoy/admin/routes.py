"""The routes of the REST API as a table: method, path, the right that each needs, and what it answers."""

from __future__ import annotations

from typing import Final

from convoy.admin import changes, live, members, streams, views
from convoy.admin.port import Person
from convoy.admin.reading import number, switch
from convoy.admin.route import Answer, Call, Handler, Query, Route
from convoy.control import rights
from convoy.errors import BadInput, NotFound
from convoy.trust import bundle as bundles

SHOWN: Final = 30  # names of results in an error


async def challenge(call: Call) -> Answer:
    """Send the nonce that a login must sign."""
    return views.NonceView(project=call.services.logins.membership.now.project, nonce=call.services.logins.nonce())


async def log_in(call: Call) -> Answer:
    """Send a bearer token to a caller who proves a key."""
    ask = await call.read(views.LoginAsk)
    token, person = call.services.logins.log_in(ask.nonce, ask.certificate, ask.signature)
    call.of.note(person.actor, "login", call.thing)
    logins = call.services.logins
    number = logins.membership.now.number
    return views.BearerView(token=token, ends_in_s=logins.bearer_s, person=_person(person), federation=number)


def _person(person: Person) -> views.PersonView:
    return views.PersonView(name=person.name, org=person.org, role=person.role)


async def log_out(call: Call) -> Answer:
    """Invalidate the bearer token."""
    bearer = call.bearer
    assert bearer is not None  # noqa: S101 - the route is not public
    call.grant.act(lambda _: call.services.logins.log_out(bearer))
    return views.Done()


async def me(call: Call) -> Answer:
    """Show the caller."""
    return call.grant.act(_person)


async def status(call: Call) -> Answer:
    """Show the server."""
    return call.of.status()


async def problems(call: Call) -> Answer:
    """Show the newest warnings and errors."""
    return call.of.problems(min(number(call.request, "count", 50), 1000))


async def jobs(call: Call) -> Answer:
    """List the jobs, a page at a time."""
    asked = {name: call.request.query_params.get(name, "")[:MAX_WORD] for name in ("begins", "meant", "after")}
    return await call.of.jobs(**asked, limit=number(call.request, "limit", PAGE))


async def submit(call: Call) -> Answer:
    """Accept a bundle."""
    holder, operator = call.grant.act(lambda person: (person.name, rights.may_operate(person.role)))
    async with call.services.uploads.queued(holder, operator=operator):
        return await call.of.submit(call.grant, await call.body(bundles.MAX_BYTES))


async def job(call: Call) -> Answer:
    """Show a job."""
    detail = await call.of.job(call.path("job"), brief=switch(call.request, "brief"))
    return detail if call.grant.may("logs") else detail.model_copy(update={"traceback": ""})


async def rounds(call: Call) -> Answer:
    """List the rounds of a job, a page at a time."""
    limit, after = number(call.request, "limit", PAGE), number(call.request, "after", -1, least=-1)
    sites = [site for site in call.request.query_params.get("sites", "").split(",", MAX_SITES) if site]
    if len(sites) > MAX_SITES:
        raise BadInput(f"sites names more than {MAX_SITES}", fix="ask for the others in another request")
    return await call.of.rounds(call.path("job"), after, limit, sites)


async def one_round(call: Call) -> Answer:
    """Show a round with all of its sites."""
    wanted = call.path("round")
    if not wanted.isdecimal() or len(wanted) > len(str(1 << 31)):
        raise NotFound(f"there is no round {wanted[:40]!r}", fix="give the number of a round")
    return await call.of.round(call.path("job"), int(wanted), brief=switch(call.request, "brief"))


async def abort(call: Call) -> Answer:
    """End a job."""
    return await call.of.abort(call.grant, call.path("job"))


async def delete(call: Call) -> Answer:
    """Delete a job."""
    await call.of.delete(call.grant, call.path("job"))
    return views.Done()


async def bundle(call: Call) -> Answer:
    """Send a job's bundle."""
    chunks = await streams.begun(call.of.bundle(call.path("job")))
    call.grant.act(lambda person: call.of.note(person.actor, "clone", call.thing))
    return streams.Stream(chunks, "application/octet-stream")


async def result(call: Call) -> Answer:
    """Send a result file from an offset on."""
    name, offset = call.path("name"), number(call.request, "offset", 0)
    chunks = await streams.begun(streams.skipped(call.of.result(call.path("job"), name), offset))
    if not offset:  # otherwise it continues an interrupted download
        call.grant.act(lambda person: call.of.note(person.actor, "download", f"{call.thing}/{name}"))
    return streams.Stream(chunks, "application/octet-stream")


async def sites(call: Call) -> Answer:
    """List the sites."""
    return call.of.sites()


async def presence(call: Call) -> Answer:
    """Show how the sites were."""
    return call.of.presence()


async def site(call: Call) -> Answer:
    """Show a site."""
    return next(found for found in call.of.sites() if found.name == call.path("site"))


async def enable(call: Call) -> Answer:
    """Enable a site."""
    return await call.of.set_site(call.grant, call.path("site"), enabled=True)


async def disable(call: Call) -> Answer:
    """Disable a site."""
    return await call.of.set_site(call.grant, call.path("site"), enabled=False)


async def revoke(call: Call) -> Answer:
    """Revoke all certificates of a site that were issued so far."""
    return await call.of.revoke_site(call.grant, call.path("site"))


async def revoke_admin(call: Call) -> Answer:
    """Revoke all certificates of a person that were issued so far."""
    return await call.of.revoke_admin(call.grant, call.path("admin"))


def leave(*, restart: bool) -> Handler:
    """Return the handler that stops or restarts a node: the site in the path, else the server."""

    async def handler(call: Call) -> Answer:
        target = str(call.request.path_params.get("site", "server"))
        await call.of.shutdown(call.grant, target, restart=restart)
        return views.Done()

    return handler


V1: Final = "/api/v1"
PAGE: Final = 100  # rows of a page, if the request gives no number
MAX_SITES: Final = 100  # that one request for rounds may name
MAX_WORD: Final = 256  # characters of a name, an id or a place in a list
_LIMIT: Final = Query("limit", "integer", "the largest number of items, at most 500; default 100")
_AFTER: Final = Query("after", "integer", "only rounds after this number")
_SITE: Final = Query("site", "string", "only this site; `server` is the workflow")
_FOLLOW: Final = Query("follow", "boolean", "continue until the job has ended")
ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", f"{V1}/login", "public", challenge, views.NonceView, "Get a nonce to sign"),
    Route(
        "POST",
        f"{V1}/login",
        "public",
        log_in,
        views.BearerView,
        "Log in: get a bearer token for a proven key",
        takes=views.LoginAsk,
    ),
    Route("POST", f"{V1}/logout", "known", log_out, views.Done, "Log out: invalidate the bearer token"),
    Route("POST", f"{V1}/enrol", "public", members.enrol, views.CertificateView, "Join", takes=views.EnrolAsk),
    Route(
        "POST",
        f"{V1}/renew",
        "known",
        members.renew,
        views.CertificateView,
        "Get a certificate for a new key",
        takes=views.RenewAsk,
    ),
    Route(
        "POST", f"{V1}/invites", "invite", members.invite, views.Done, "Register a join token", takes=views.InviteAsk
    ),
    Route("GET", f"{V1}/invites", "invite", members.invites, views.InviteView, "The valid join tokens", shape="list"),
    Route("GET", f"{V1}/people", "observe", members.people, views.AdminView, "Who may log in", shape="list"),
    Route(
        "POST",
        f"{V1}/federation",
        "known",
        members.publish,
        views.FederationView,
        "Publish a newer federation.json",
        takes="bytes",
    ),
    Route("GET", f"{V1}/federation", "known", members.who, None, "The current federation.json, signed by the root"),
    Route(
        "POST",
        f"{V1}/authority/request",
        "operate_server",
        members.ask_for_authority,
        views.RequestView,
        "Get the request for a new issuing authority",
    ),
    Route(
        "POST",
        f"{V1}/authority",
        "operate_server",
        members.take_authority,
        views.Done,
        "Install the certificate of the new issuing authority",
        takes=views.CertificateView,
    ),
    Route("GET", f"{V1}/me", "known", me, views.PersonView, "Who one is"),
    Route("GET", f"{V1}/status", "observe", status, views.ServerView, "The state of the server"),
    Route(
        "GET",
        f"{V1}/changes",
        "observe",
        live.changes,
        changes.ChangeView,
        "Hear when sites, jobs, people or problems have changed: one line at once, then at most one a second",
        shape="lines",
    ),
    Route(
        "GET",
        f"{V1}/problems",
        "observe",
        problems,
        views.LogLine,
        "The newest warnings and errors of the server, oldest first",
        shape="list",
        query=(Query("count", "integer", "how many, at most 1000"),),
    ),
    Route(
        "GET",
        f"{V1}/audit",
        "audit",
        live.trail,
        views.AuditLine,
        "The records of the audit trail, each followed by its checkpoint if it has one",
        shape="lines",
        query=(Query("since", "integer", "the number of the first record"),),
    ),
    Route(
        "GET",
        f"{V1}/audit/records",
        "audit",
        live.records,
        views.AuditPage,
        "A page of the audit trail's records, newest first; it may hold fewer than asked for",
        query=(
            _LIMIT,
            Query("before", "integer", "only records with numbers under this one; the `next` of a page"),
            Query("actor", "string", "only records whose actor contains this"),
            Query("action", "string", "only records of this action"),
            Query("object", "string", "only records whose object contains this"),
            Query("outcome", "string", "only records whose outcome begins with this"),
            Query("text", "string", "only records that contain this somewhere"),
            Query("since", "integer", "only records from this time on (milliseconds since the epoch)"),
            Query("until", "integer", "only records before this time"),
        ),
    ),
    Route("POST", f"{V1}/stop", "operate_server", leave(restart=False), views.Done, "Drain and stop the server"),
    Route("POST", f"{V1}/restart", "operate_server", leave(restart=True), views.Done, "Drain and restart the server"),
    Route("GET", f"{V1}/sites", "observe", sites, views.SiteView, "Every site, by name", shape="list"),
    Route("GET", f"{V1}/presence", "observe", presence, changes.PresenceView, "How each site was in the last 24 h"),
    Route("GET", f"{V1}/sites/{{site}}", "observe", site, views.SiteView, "One site"),
    Route("POST", f"{V1}/sites/{{site}}/enable", "operate_site", enable, views.SiteView, "Enable a site"),
    Route("POST", f"{V1}/sites/{{site}}/disable", "operate_site", disable, views.SiteView, "Disable a site"),
    Route(
        "POST", f"{V1}/sites/{{site}}/revoke", "operate_site", revoke, views.SiteView, "Revoke a site's certificates"
    ),
    Route(
        "POST",
        f"{V1}/admins/{{admin}}/revoke",
        "operate_server",
        revoke_admin,
        views.Done,
        "Revoke a person's certificates",
    ),
    Route("POST", f"{V1}/sites/{{site}}/stop", "operate_site", leave(restart=False), views.Done, "Stop a site"),
    Route("POST", f"{V1}/sites/{{site}}/restart", "operate_site", leave(restart=True), views.Done, "Restart a site"),
    Route(
        "GET",
        f"{V1}/jobs",
        "view",
        jobs,
        views.JobPage,
        "A page of jobs, newest first",
        query=(
            _LIMIT,
            Query("after", "string", "jobs after a page: the `next` of that page"),
            Query("begins", "string", "only jobs whose name or id begins with this"),
            Query("meant", "string", "only jobs that a person may mean by this: a name, or the beginning of an id"),
        ),
    ),
    Route("POST", f"{V1}/jobs", "submit", submit, views.JobView, "Submit a signed bundle", takes="bytes"),
    Route(
        "GET",
        f"{V1}/jobs/{{job}}",
        "view",
        job,
        views.JobDetail,
        "One job, with its newest rounds",
        query=(Query("brief", "boolean", "without costs, and without the sites of rounds"),),
    ),
    Route(
        "GET",
        f"{V1}/jobs/{{job}}/rounds",
        "view",
        rounds,
        views.RoundPage,
        "A page of a job's rounds, oldest first; it may hold fewer than asked for",
        query=(_LIMIT, _AFTER, Query("sites", "string", "only these sites, separated by commas, at most 100")),
    ),
    Route(
        "GET",
        f"{V1}/jobs/{{job}}/rounds/{{round}}",
        "view",
        one_round,
        views.RoundView,
        "A round and its sites",
        query=(Query("brief", "boolean", "without costs"),),
    ),
    Route("DELETE", f"{V1}/jobs/{{job}}", "delete", delete, views.Done, "Delete an ended job and its results"),
    Route(
        "GET",
        f"{V1}/jobs/{{job}}/watch",
        "view",
        live.watch,
        views.Progress,
        "Follow a job until it ends",
        shape="lines",
        query=(_AFTER,),
    ),
    Route(
        "GET",
        f"{V1}/jobs/{{job}}/logs",
        "logs",
        live.logs,
        views.LogLine,
        "A job's log lines",
        shape="lines",
        query=(_SITE, _FOLLOW),
    ),
    Route(
        "GET",
        f"{V1}/jobs/{{job}}/points",
        "logs",
        live.points,
        views.PointView,
        "A job's live metrics: those of each site in their order",
        shape="lines",
        query=(
            _SITE,
            Query("key", "string", "only values whose keys match this shell pattern"),
            Query("after", "integer", "only points of a site after this number"),
            Query("limit", "integer", "the largest number of points; default: all"),
            _FOLLOW,
        ),
    ),
    Route("POST", f"{V1}/jobs/{{job}}/abort", "abort", abort, views.JobView, "Abort a job; answers when it has ended"),
    Route("GET", f"{V1}/jobs/{{job}}/bundle", "clone", bundle, None, "The bundle of a job, as it was submitted"),
    Route(
        "GET",
        f"{V1}/jobs/{{job}}/results/{{name:path}}",
        "download",
        result,
        None,
        "A result file, by its name in the job",
        query=(Query("offset", "integer", "the number of bytes to skip"),),
    ),
)
