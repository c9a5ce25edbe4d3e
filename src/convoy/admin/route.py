"""A route of the REST API: what it takes, whom it lets through and what it answers; and one call of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from convoy.admin import streams, views
from convoy.admin.gate import Gate
from convoy.admin.port import Coordinator, Person, Registrar
from convoy.control.rights import Right

UPLOADS: Final = 2  # bundles at once, so that what strangers to each other send stays bounded in memory

Needs = Right | Literal["public", "known"]  # known: logged in, whatever the role


@dataclass(frozen=True, slots=True)
class Desk:
    """What handlers work with."""

    coordinator: Coordinator
    registrar: Registrar
    gate: Gate
    uploads: asyncio.Semaphore
    closing: asyncio.Event  # set when the server leaves: streams end


@dataclass(frozen=True, slots=True)
class Call:
    """One request, allowed already; `person` is nobody's on public routes."""

    desk: Desk
    person: Person
    request: Request

    @property
    def of(self) -> Coordinator:
        """The server behind the API."""
        return self.desk.coordinator

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def still(self) -> Callable[[], None]:
        """Return what raises `NotAllowed` once the person's certificates are taken back."""
        roll, begun = self.desk.gate.roll, time.time()
        return lambda: roll.check_certified(self.person.name, begun)

    @property
    def thing(self) -> str:
        """What the request is about, for the audit trail: a job, a site, else where it comes from."""
        return thing(self.request)

    @property
    def authorization(self) -> str:
        """The Authorization header."""
        return self.request.headers.get("authorization", "")


Answer = views.View | list[Any] | Response | streams.Stream
Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter; text unless it is a number or a switch."""

    name: str
    kind: Literal["string", "integer", "boolean"]
    meaning: str


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. A path with {job} or {site} needs the right over that job or site."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    needs: Needs
    handler: Handler
    answer: type[views.View] | None  # None: bytes
    summary: str
    shape: Literal["one", "list", "lines"] = "one"
    takes: type[views.View] | Literal["bytes"] | None = None
    query: tuple[Query, ...] = ()

    @property
    def audited(self) -> bool:
        """Whether the audit trail tells of it: of what changes something, and of code and models that leave."""
        return self.method != "GET" or self.needs in ("clone", "download")

    @property
    def action(self) -> str:
        """What it is called in the audit trail: as its right, or as its path where that says more."""
        wide = self.needs in ("public", "known", "operate_site", "operate_server")
        return self.path.rpartition("/")[2] if wide else self.needs


def thing(request: Request) -> str:
    """Return what a request is about, for the audit trail: a job, a site, a person, else where it comes from."""
    for kind in ("job", "site", "admin"):
        if kind in request.path_params:
            return f"{kind}:{request.path_params[kind]}"
    return f"from:{request.client.host}" if request.client else ""
