"""The REST API as an ASGI application: it checks login and rights before each route, and returns errors as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route as Served

from convoy import errors
from convoy.admin import faults, openapi, page, routes, streams
from convoy.admin.admission import Admission
from convoy.admin.grant import Granted
from convoy.admin.logins import Bearer, Logins
from convoy.admin.port import Coordinator, Person, Registrar
from convoy.admin.route import Answer, Call, Route, Services
from convoy.admin.route import thing as concerned
from convoy.control import rights
from convoy.errors import Bug, ConvoyError, NotAllowed, NotFound

NOBODY: Final = Person(name="", org="", role="")
Owner = tuple[str, str] | NotFound | None  # of the job in a path; None: it names none
HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "strict-transport-security": "max-age=31536000",
}


def build(coordinator: Coordinator, registrar: Registrar, logins: Logins, *, version: str) -> Starlette:
    """Return the application: every route of the table, the OpenAPI document and its page."""
    services = Services(coordinator, registrar, logins)
    logins.membership.changed.append(services.look)

    @cache  # the schemas of all models take longer than the rest of a start
    def document() -> dict[str, Any]:
        return openapi.document(routes.ROUTES, version=version)

    async def schemas(_request: Request) -> Any:
        return JSONResponse(await asyncio.to_thread(document), headers=HEADERS)

    text = page.render(routes.ROUTES, version=version, project=logins.membership.now.project)
    served = [Served(route.path, _endpoint(services, route), methods=[route.method]) for route in routes.ROUTES]
    served += [
        Served("/api/openapi.json", schemas),
        Served("/docs", _fixed(lambda: Response(text, media_type="text/html", headers=HEADERS))),
        Served("/", _fixed(lambda: RedirectResponse("/docs"))),
    ]
    handlers: Any = {ConvoyError: _refuse, HTTPException: _unknown, Exception: _bug}
    made = Starlette(routes=served, exception_handlers=handlers, middleware=[Middleware(Admission, logins=logins)])
    made.state.closing, made.state.logins = services.closing, logins
    return made


def _fixed(make: Callable[[], Response]) -> Callable[[Request], Awaitable[Any]]:
    async def endpoint(_request: Request) -> Any:
        return make()

    return endpoint


def _endpoint(services: Services, route: Route) -> Callable[[Request], Awaitable[Any]]:
    async def endpoint(request: Request) -> Any:
        person, bearer = NOBODY, None
        if route.needs != "public":
            bearer = services.logins.bearer(request.headers.get("authorization", ""))
            person = services.logins.who(bearer)
        owner = await _owner(services, person, request)
        grant = _granted(services, route, bearer, request, owner)
        try:
            grant.check()
            answer = await route.handler(Call(services, grant, request, bearer))
            if route.method == "GET":  # for a GET, sending the answer is the effect
                grant.check()
        except ConvoyError as problem:
            if route.audited or isinstance(problem, NotAllowed):
                thing, refusal = concerned(request), errors.line(problem)
                services.coordinator.note(person.actor, route.action, thing, refusal=refusal)
            raise
        if route.method != "GET" and person is not NOBODY:
            structlog.get_logger().info("asked", person=person.name, method=route.method, path=request.url.path)
        return _response(services, grant, answer)

    return endpoint


async def _owner(services: Services, person: Person, request: Request) -> Owner:
    """Return who submitted the job that the path names, and their organisation then: neither ever changes.

    Only people who have the right over other people's jobs learn that a job does not exist.
    """
    job = request.path_params.get("job")
    if job is None or person is NOBODY:
        return None
    try:
        return await services.coordinator.owner(job)
    except NotFound as problem:
        return problem


def _granted(
    services: Services,
    route: Route,
    bearer: Bearer | None,
    request: Request,
    owner: Owner,
) -> Granted:
    """Return the caller's grant for what the route names; `owner` is that of the job in its path."""

    def who() -> Person:
        return NOBODY if bearer is None else services.logins.who(bearer)

    def judge() -> Person:
        person = who()
        if route.needs == "known" and person.role in rights.SERVICES:
            raise NotAllowed(f"{person.name} does not have the right to do this", why="this route is for people")
        if route.needs != "public" and route.needs != "known":  # noqa: PLR1714 - so mypy knows that it is a right
            _demand(services, route.needs, person, request, owner)
        return person

    def may(right: rights.Right) -> bool:
        person = who()
        own, same_org = _nearness(services, person, request, owner)
        return rights.allows(person.role, right, own=own, same_org=same_org)

    return Granted(judge, may)


def _demand(
    services: Services,
    right: rights.Right,
    person: Person,
    request: Request,
    owner: Owner,
) -> None:
    """Raise `NotAllowed` unless the person has the right, `NotFound` for a job or site that is not there."""
    own = same_org = False
    if rights.reach(person.role, right) != "none":
        own, same_org = _nearness(services, person, request, owner)
    if not rights.allows(person.role, right, own=own, same_org=same_org):
        how_far = rights.reach(person.role, right)
        meant = {"own": "only for their own jobs", "org": "only within their organisation"}.get(how_far, "for nothing")
        raise NotAllowed(
            f"{person.name} does not have the right to do this",
            why=f"{'an' if person.role.startswith('o') else 'a'} {person.role} has the right {right!r} {meant}",
            fix="ask a project_admin",
        )


def _nearness(services: Services, person: Person, request: Request, owner: Owner) -> tuple[bool, bool]:
    """Return whether what the path names is the person's own, and whether it is their organisation's."""
    site = request.path_params.get("site")
    if isinstance(owner, NotFound):
        raise owner
    if owner is not None:
        submitter, org = owner
        return submitter == person.name, org == person.org
    if site is not None:
        federation = services.logins.membership.now
        if site not in federation.sites():
            raise NotFound(
                f"there is no site {site[:80]!r}", why=f"there are: {', '.join(federation.sites()) or 'none'}"
            )
        return False, federation.participants[site].org == person.org
    return False, False


def _response(services: Services, grant: Granted, answer: Answer) -> Any:
    if isinstance(answer, streams.Stream):
        return answer.guarded(grant.check, services.open)
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, list):
        text = "[" + ",".join(item.model_dump_json() for item in answer) + "]"
    else:
        text = answer.model_dump_json()
    return Response(text, media_type="application/json", headers=HEADERS)


async def _refuse(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, ConvoyError)  # noqa: S101 - registered for nothing else
    headers = dict(HEADERS)
    status = faults.status_of(problem)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(faults.to_json(problem), status, headers)


async def _unknown(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)  # noqa: S101 - registered for nothing else
    said = NotFound(f"{request.method} {request.url.path}: {problem.detail}", fix="the routes are at /docs")
    return JSONResponse(faults.to_json(said), problem.status_code, HEADERS)


async def _bug(_request: Request, problem: Exception) -> Response:
    structlog.get_logger().error("a request failed", exc_info=problem)
    said = Bug("the server failed on this request", why=type(problem).__name__, fix="report it with the server's log")
    return JSONResponse(faults.to_json(said), 500, HEADERS)
