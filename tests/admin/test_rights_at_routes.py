"""Every route, every role, own, organisation's and foreign: who gets in is what the table of rights says."""

import base64
import itertools
import json
import time

import pytest
import sqlalchemy as sa

from convoy import errors
from convoy.admin import faults, link, routes
from convoy.admin.logins import MAX_BEARERS, Logins
from convoy.control import rights
from convoy.errors import ConvoyError, NotAllowed, NotFound, Unreachable
from convoy.store import tables
from convoy.trust import enrolment, keys
from convoy.trust.federation import Federation, Participant
from tests.admin import rest_api as api
from tests.admin.memory_coordinator import made_round

JOB_OWNER = "lead@a.org"
SITE_ORGS = {"site-1": "a", "site-2": "b"}


@pytest.fixture
async def line(rest):
    made = link.Link("localhost", rest.port, rest.logins.membership.root_pem)
    yield made
    await made.close()


@pytest.fixture
async def job(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client(JOB_OWNER) as convoy:
        job = (await convoy.submit(api.job_folder(tmp_path))).id
    rest.fake.kept[job].rounds.append(made_round(1, ["site-1"], {}))
    return job


async def outcome(line, route, bearer, content=None, **parts):
    """Return "ok", or the kind of error that the route answers with."""
    path = route.path.replace("{name:path}", "model.safetensors").replace("{round}", "1")
    for name, value in parts.items():
        path = path.replace(f"{{{name}}}", value)
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    try:
        async with line.open(route.method, path, headers=headers, content=content) as chunks:
            async for _ in chunks:
                break
            return "ok"
    except ConvoyError as problem:
        return type(problem).__name__


def named(route):
    return f"{route.method} {route.path}"


ids = list(map(named, routes.ROUTES))


@pytest.mark.parametrize("route", routes.ROUTES, ids=ids)
async def test_who_gets_in_is_what_the_table_says(rest, line, job, route):
    for who, (org, role) in api.ROLES.items():
        for site, site_org in SITE_ORGS.items() if "{site}" in route.path else [("", "")]:
            got = await outcome(line, route, rest.bearer(who), job=job, site=site)
            own = "{job}" in route.path and who == JOB_OWNER
            same_org = ("{job}" in route.path and org == "a") or bool(site and org == site_org)
            free = route.needs in ("public", "known")
            allowed = free or rights.allows(role, route.needs, own=own, same_org=same_org)
            refused = got in ("NotAllowed", "LoginNeeded") and not (free and route.path.endswith("/federation"))
            assert refused is not allowed, f"{who} ({role}) at {route.method} {route.path} {site}: {got}"


LOSSES = {
    "revoked": lambda membership, name: membership.revoke(name, time.time()),
    "demoted": lambda membership, name: membership.take(
        listed(membership, {name: Participant("admin", "a", "nobody")}), membership.root_pem
    ),
    "removed": lambda membership, name: membership.take(listed(membership, {name: None}), membership.root_pem),
}


def listed(membership, changes):
    """Return the federation with some participants changed, or left out."""
    people = {name: who for name, who in (dict(membership.now.participants) | changes).items() if who is not None}
    return Federation("clinics", membership.now.number + 1, people)


def said(route, rest):
    """Return a body that the route takes, so that what it refuses is the person."""
    asks = {
        "/renew": lambda: {"request": enrolment.request(keys.make()).decode()},
        "/invites": lambda: {"hash": "f" * 64, "kind": "site", "name": "site-1", "expires_at": time.time() + 60},
        "/authority": lambda: {"certificate": "none"},
    }
    ask = asks.get(route.path.removeprefix("/api/v1"))
    return json.dumps(ask()).encode() if ask else rest.registry.signed if route.takes == "bytes" else None


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("route", [route for route in routes.ROUTES if route.needs != "public"], ids=named)
async def test_who_loses_the_right_between_the_start_of_a_request_and_its_effect_has_no_effect(
    rest, line, job, route, loss, monkeypatch
):
    """The judgements at the beginning find the right; each that comes later finds it gone."""
    if route.needs == "known" and loss == "demoted":
        return  # it needs no right that a role gives
    if route.method == "DELETE" or "{name" in route.path:
        kept = rest.fake.kept[job]
        kept.view, kept.results = kept.view.model_copy(update={"state": "completed"}), {"model.safetensors": b"w"}
    bearer, who, count = rest.bearer("root@a.org"), Logins.who, itertools.count(1)
    before = effects(rest)

    def judged(logins, its):
        found = who(logins, its)
        if next(count) == 3:
            LOSSES[loss](logins.membership, found.name)
        return found

    monkeypatch.setattr(Logins, "who", judged)
    got = await outcome(line, route, bearer, content=said(route, rest), job=job, site="site-1", admin="look@a.org")
    assert got == "NotAllowed"
    assert effects(rest) == before


def effects(rest):
    """Return all that a request may have changed."""
    fake, registry = rest.fake, rest.registry
    work = [path.read_bytes() for path in sorted(registry.kit.work.iterdir()) if path.name.startswith(("fed", "pen"))]
    invites = registry.ledger._engine.connect().execute(sa.select(tables.INVITES)).all()
    done = [noted for noted in fake.noted if not noted[3]]
    states = [kept.view.state for kept in fake.kept.values()]
    return [*fake.left], {*fake.disabled}, [*fake.revoked], states, invites, work, registry.signed, done


FOLLOWED = [route for route in routes.ROUTES if route.path.endswith(("/watch", "/logs", "/points", "/changes"))]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("route", FOLLOWED, ids=named)
async def test_what_somebody_follows_ends_at_once_when_the_right_is_gone(rest, line, job, route, loss):
    bearer = rest.bearer("lead@a.org")
    path = route.path.replace("{job}", job) + "?follow=true"
    with pytest.raises(NotAllowed):  # noqa: PT012 - it is raised while the stream is read
        async with line.open("GET", path, headers={"authorization": f"Bearer {bearer}"}) as chunks:
            LOSSES[loss](rest.logins.membership, "lead@a.org")
            async for _ in link.lines(chunks):
                pass


async def test_what_somebody_downloads_breaks_off_when_the_right_is_gone(rest, line, job, tmp_path):
    rest.fake.kept[job].results = {"model.safetensors": bytes(64 << 20)}  # more than any buffer in between holds
    path = f"/api/v1/jobs/{job}/results/model.safetensors"
    headers = {"authorization": f"Bearer {rest.bearer('lead@a.org')}"}
    came = 0
    with pytest.raises(Unreachable):  # noqa: PT012 - it is raised while the stream is read
        async with line.open("GET", path, headers=headers) as chunks:
            async for chunk in chunks:
                came += len(chunk)
                if not rest.logins.membership.revoked:
                    rest.logins.membership.revoke("lead@a.org", time.time())
    assert 0 < came < 64 << 20


async def test_who_logs_out_ends_what_the_bearer_has_opened(rest, line, job):
    headers = {"authorization": f"Bearer {rest.bearer('lead@a.org')}"}
    other = link.Link("localhost", rest.port, rest.logins.membership.root_pem)
    async with line.open("GET", f"/api/v1/jobs/{job}/watch", headers=headers) as chunks:
        lines = link.lines(chunks)
        await anext(lines)
        await other.ask("POST", "/api/v1/logout", headers=headers)
        rest.fake.may_go.set()
        with pytest.raises(NotAllowed, match="not logged in"):
            async for _ in lines:
                pass
    await other.close()


async def test_a_traceback_is_for_whoever_may_see_the_logs(rest, tmp_path):
    async with rest.client("lead@a.org") as lead, rest.client("look@a.org") as member:
        job = (await lead.submit(api.job_folder(tmp_path, config="{fail_at: 2}"))).id
        for convoy, told in ((lead, True), (member, False)):
            last = [seen async for seen in convoy.watch(job)][-1]
            assert last.job.state == "failed"
            assert bool(last.traceback) is told
            assert bool((await convoy.job(job)).traceback) is told


async def test_who_may_not_is_told_in_plain_words(rest, line):
    with pytest.raises(NotAllowed) as refused:
        async with line.open("POST", "/api/v1/jobs", headers={"authorization": f"Bearer {rest.bearer('boss@a.org')}"}):
            pass
    assert refused.value.why == "an org_admin has the right 'submit' for nothing"


@pytest.mark.parametrize("route", routes.ROUTES, ids=ids)
async def test_without_a_bearer_only_the_login_answers(rest, line, job, route):
    for bearer in ("", "not-a-bearer"):
        got = await outcome(line, route, bearer, job=job, site="site-1")
        assert (got == "LoginNeeded") is (route.needs != "public")
    assert rest.fake.left == []


@pytest.mark.parametrize("route", routes.ROUTES, ids=ids)
async def test_an_unknown_job_or_site_is_not_there_for_whoever_has_the_right_at_all(rest, line, route):
    if "{job}" not in route.path and "{site}" not in route.path:
        return
    for who, (_, role) in api.ROLES.items():
        got = await outcome(line, route, rest.bearer(who), job="0" * 32, site="mars")
        assert got == ("NotAllowed" if rights.reach(role, route.needs) == "none" else "NotFound")


async def test_what_is_refused_and_what_the_api_does_by_itself_goes_into_the_audit_trail(rest, line, job):
    await outcome(line, routes_of("GET", "/jobs/{job}/logs"), rest.bearer("look@a.org"), job=job)
    await outcome(line, routes_of("POST", "/sites/{site}/stop"), rest.bearer("lead@b.org"), site="site-1")
    await outcome(line, routes_of("POST", "/jobs"), rest.bearer("lead@a.org"))
    await outcome(line, routes_of("GET", "/jobs/{job}/bundle"), rest.bearer("lead@a.org"), job=job)
    await outcome(line, routes_of("POST", "/login"), "")
    await outcome(line, routes_of("GET", "/jobs"), "not-a-bearer")
    noted = [(actor, action, thing, refusal.split(":")[0]) for actor, action, thing, refusal in rest.fake.noted]
    assert noted == [
        ("admin:lead@a.org", "login", "from:127.0.0.1", ""),
        ("admin:look@a.org", "logs", f"job:{job}", "look@a.org does not have the right to do this"),
        ("admin:lead@b.org", "stop", "site:site-1", "lead@b.org does not have the right to do this"),
        ("admin:lead@a.org", "submit", "from:127.0.0.1", noted[3][3]),
        ("admin:lead@a.org", "clone", f"job:{job}", ""),
        ("stranger", "login", "from:127.0.0.1", "this is not a valid login request"),
    ]
    assert noted[3][3]


def routes_of(method, path):
    return next(route for route in routes.ROUTES if (route.method, route.path) == (method, f"/api/v1{path}"))


def test_what_the_audit_trail_tells_of_has_the_names_that_people_know():
    told = [route.action for route in routes.ROUTES if route.audited]
    who = ["login", "logout", "enrol", "renew", "invite", "federation", "request", "authority"]
    sites = ["enable", "disable", "revoke", "stop", "restart"]
    assert told == [
        *who,
        "stop",
        "restart",
        *sites[:3],
        "revoke",
        *sites[3:],
        "submit",
        "delete",
        "abort",
        "clone",
        "download",
    ]


def test_every_route_needs_a_right_of_the_table_or_says_that_it_needs_none():
    assert {route.needs for route in routes.ROUTES} <= {*rights.RIGHTS, "public", "known"}
    assert [route.path for route in routes.ROUTES if route.needs == "public"] == [
        "/api/v1/login",
        "/api/v1/login",
        "/api/v1/enrol",
    ]
    assert set(rights.RIGHTS) <= {route.needs for route in routes.ROUTES}


async def test_a_role_that_changed_counts_at_once(rest, line):
    bearer = rest.bearer("lead@a.org")
    route = next(route for route in routes.ROUTES if route.path.endswith("/sites/{site}/stop"))
    assert await outcome(line, route, bearer, site="site-1") == "ok"
    people = dict(rest.logins.membership.now.participants)
    people["lead@a.org"] = Participant("admin", "a", "member")
    rest.logins.membership.now = Federation("clinics", 2, people)
    assert await outcome(line, route, bearer, site="site-1") == "NotAllowed"
    del people["lead@a.org"]
    with pytest.raises(NotAllowed, match="not an admin of clinics"):
        await line.ask("GET", "/api/v1/me", headers={"authorization": f"Bearer {bearer}"})


async def test_unknown_paths_and_methods_are_told_as_errors_of_ours(line):
    for method, path in (("GET", "/api/v1/nothing"), ("PUT", "/api/v1/jobs")):
        with pytest.raises(NotFound, match=path):
            await line.ask(method, path)


async def test_the_documents_of_the_api_are_whole(line):
    document = json.loads(text := (await line.ask("GET", "/api/openapi.json")).decode())
    for route in routes.ROUTES:
        assert document["paths"][route.path.replace(":path", "")][route.method.lower()]["x-right"] == route.needs
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named == set(document["components"]["schemas"])
    operations = [said["operationId"] for path in document["paths"].values() for said in path.values()]
    assert len(set(operations)) == len(operations)
    async with line.open("GET", "/docs") as chunks:
        page = b"".join([chunk async for chunk in chunks]).decode()
    assert all(route.path in page for route in routes.ROUTES)
    assert "http://" not in page
    assert "https://" not in page


def test_a_nonce_of_another_server_or_one_that_was_changed_is_refused(tmp_path, prod):
    logins = api.make(tmp_path, prod).logins
    other = api.make(tmp_path, prod).logins
    changed = bytearray(base64.urlsafe_b64decode(logins.nonce()))
    changed[20] ^= 1
    for nonce in (other.nonce(), base64.urlsafe_b64encode(bytes(changed)).decode(), "", "é", "x" * 100_000):
        with pytest.raises(NotAllowed, match="not from this server"):
            logins.log_in(nonce, "", "")


def test_a_nonce_and_a_bearer_end(tmp_path, prod):
    rest, now = api.make(tmp_path, prod), [1000.0]
    rest.logins.clock = lambda: now[0]
    late = rest.logins.nonce()
    now[0] += 61
    with pytest.raises(NotAllowed, match="too late or twice"):
        rest.logins.log_in(late, "", "")
    token = rest.bearer("lead@a.org")
    assert rest.logins.who(rest.logins.bearer(f"Bearer {token}")).role == "lead"
    now[0] += 1801
    with pytest.raises(faults.LoginNeeded):
        rest.logins.bearer(f"Bearer {token}")


def test_bearers_take_bounded_memory(tmp_path, prod):
    rest = api.make(tmp_path, prod)
    for _ in range(MAX_BEARERS + 5):
        rest.bearer("lead@a.org")
    assert len(rest.logins._bearers) == MAX_BEARERS


def test_a_server_in_the_place_of_a_person_does_not_get_in(tmp_path, prod):
    with pytest.raises(NotAllowed, match="belongs to a server"):
        api.make(tmp_path, prod).bearer("server")


@pytest.mark.parametrize("kind", sorted(faults.STATUS, key=lambda kind: kind.__name__))
def test_an_error_is_the_same_at_both_ends(kind):
    sent = kind("what", why="why", fix="fix")
    got = faults.from_json(json.loads(json.dumps(faults.to_json(sent))), faults.status_of(sent))
    ours = kind in (errors.Bug, errors.ConvoyError)  # a bug there is none of ours here
    assert type(got) is (errors.RemoteFault if ours else kind)
    assert (got.what, got.why, got.fix, got.exit_code) == ("what", "why", "fix", 1 if ours else kind.exit_code)


@pytest.mark.parametrize("said", [None, 3, [], {}, {"kind": "SystemExit", "what": "x"}])
def test_an_answer_that_is_no_error_of_ours_becomes_a_remote_fault(said):
    assert "answered 502" in faults.from_json(said, 502).what
