"""The dashboard as an ASGI application: the table of its pages, and how each error looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.routing import Route as Served
from starlette.staticfiles import StaticFiles

from convoy import errors
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
from convoy.dashboard.federation_state import FederationState
from convoy.dashboard.guard import Guard, Session
from convoy.dashboard.rendering import Place
from convoy.dashboard.route import CSRF_HEADER, Call, Route, Services, Visit, check_csrf, read_form
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


def build(client: Client, session: Session, federation_state: FederationState) -> tuple[Guard, Services]:
    """Return the application behind its guard, and what its pages share."""
    services = Services(client, federation_state, rendering.build(PLACES), session, Streams(), Verification(client))
    return application(ROUTES, session, lambda request, form: Call(services, request, form)), services


def application(
    routes: Iterable[Route], session: Session, visit: Callable[[Request, Mapping[str, str]], Visit]
) -> Guard:
    """Return the application of a table of routes behind its guard; `visit` makes what their handlers get."""
    served: list[Any] = [
        Served(
            route.path, _endpoint(route, session, visit), methods=[route.method], name=f"{route.method} {route.path}"
        )
        for route in routes
    ]
    served.append(Mount("/assets", StaticFiles(directory=rendering.ASSETS)))

    def shown(request: Request, problem: ConvoyError, status: int) -> Response:
        """Return an error as a page: what failed, why, and what to do."""
        return visit(request, {}).page("error.html", fault=problem, status=status)

    async def refused(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, ConvoyError)  # noqa: S101 - registered for nothing else
        return shown(request, problem, faults.status_of(problem))

    async def denied(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, OSError)  # noqa: S101 - registered for nothing else
        return shown(request, errors.shown(problem), 409)

    async def unknown(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)  # noqa: S101 - registered for nothing else
        said = NotFound("there is no such page", why=f"{request.method} {request.url.path[:200]}", fix="use the menu")
        return shown(request, said, problem.status_code)

    async def failed(request: Request, problem: Exception) -> Response:
        structlog.get_logger().error("a page failed", path=request.url.path, exc_info=problem)
        said = Bug(
            "this is a bug in Convoy",
            why=type(problem).__name__,
            fix="report it, with the output of `convoy dashboard`",
        )
        return shown(request, said, 500)

    handlers: Any = {ConvoyError: refused, OSError: denied, HTTPException: unknown, Exception: failed}
    return Guard(Starlette(routes=served, exception_handlers=handlers), session)


def _endpoint(
    route: Route, session: Session, visit: Callable[[Request, Mapping[str, str]], Visit]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        form: Mapping[str, str] = {}
        if route.reads == "body":
            check_csrf(request.headers.get(CSRF_HEADER, ""), session)
        elif route.method == "POST":
            form = await read_form(request, session)
        return await route.handler(visit(request, form))

    return endpoint
