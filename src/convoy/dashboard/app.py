"""The dashboard as an ASGI application: the table of its pages, and how each error looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.routing import Route as Served
from starlette.staticfiles import StaticFiles

from convoy.admin import faults
from convoy.admin.client import Client
from convoy.dashboard import (
    audit,
    compare,
    curves,
    files,
    invites,
    job,
    jobs,
    logs,
    overview,
    people,
    rendering,
    resources,
    results,
    rounds,
    sites,
    submit,
)
from convoy.dashboard.guard import Guard, Session
from convoy.dashboard.pulse import Pulse
from convoy.dashboard.rendering import Place
from convoy.dashboard.route import CSRF_HEADER, Call, Route, Services, check_csrf, read_form
from convoy.dashboard.streams import Streams
from convoy.dashboard.verification import Verification
from convoy.errors import Bug, ConvoyError, NotFound

PLACES: Final = (  # the navigation
    Place("/", "Overview", "observe"),
    Place("/jobs", "Jobs", "view"),
    Place("/sites", "Sites", "observe"),
    Place("/submit", "Submit", "submit"),
    Place("/people", "People", "observe"),
    Place("/audit", "Audit", "audit"),
)
ROUTES: Final[tuple[Route, ...]] = (  # the first that fits is taken
    *overview.ROUTES,
    *jobs.ROUTES,
    *(*job.ROUTES, *curves.ROUTES, *rounds.ROUTES, *resources.ROUTES),
    *(*logs.ROUTES, *results.ROUTES, *files.ROUTES, *compare.ROUTES),
    *invites.ROUTES,
    *sites.ROUTES,
    *submit.ROUTES,
    *people.ROUTES,
    *audit.ROUTES,
)


def build(client: Client, session: Session, pulse: Pulse) -> tuple[Guard, Services]:
    """Return the application behind its guard, and what its pages share."""
    services = Services(client, pulse, rendering.build(PLACES), session, Streams(), Verification(client))
    served: list[Any] = [
        Served(route.path, _endpoint(services, route), methods=[route.method], name=f"{route.method} {route.path}")
        for route in ROUTES
    ]
    served.append(Mount("/assets", StaticFiles(directory=rendering.ASSETS)))

    async def refused(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, ConvoyError)  # noqa: S101 - registered for nothing else
        return _shown(services, request, problem, faults.status_of(problem))

    async def unknown(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)  # noqa: S101 - registered for nothing else
        said = NotFound("there is no such page", why=f"{request.method} {request.url.path[:200]}", fix="use the menu")
        return _shown(services, request, said, problem.status_code)

    async def failed(request: Request, problem: Exception) -> Response:
        structlog.get_logger().error("a page failed", path=request.url.path, exc_info=problem)
        said = Bug(
            "this is a bug in Convoy",
            why=type(problem).__name__,
            fix="report it, with the output of `convoy dashboard`",
        )
        return _shown(services, request, said, 500)

    handlers: Any = {ConvoyError: refused, HTTPException: unknown, Exception: failed}
    return Guard(Starlette(routes=served, exception_handlers=handlers), session), services


def _endpoint(services: Services, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        form: dict[str, str] = {}
        if route.reads == "body":
            check_csrf(request.headers.get(CSRF_HEADER, ""), services.session)
        elif route.method == "POST":
            form = await read_form(request, services.session)
        return await route.handler(Call(services, request, form))

    return endpoint


def _shown(services: Services, request: Request, problem: ConvoyError, status: int) -> Response:
    """Return an error as a page: what failed, why, and what to do."""
    return Call(services, request).page("error.html", fault=problem, status=status)
