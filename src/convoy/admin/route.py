"""A route of the REST API (its right, its input, its output), and one call of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from convoy.admin import reading, streams, views
from convoy.admin.grant import Granted
from convoy.admin.logins import Bearer, Logins
from convoy.admin.port import Coordinator, Registrar
from convoy.admin.slots import Slots
from convoy.control.rights import Right

UPLOADS: Final = 4  # bundles in memory at a time, one for each person; further ones wait
UPLOADS_KEPT: Final = 1  # of them reserved for people who may revoke a site

Needs = Right | Literal["public", "known"]  # known: logged in, whatever the role
V = TypeVar("V", bound=views.View)


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers share."""

    coordinator: Coordinator
    registrar: Registrar
    logins: Logins
    closing: asyncio.Event = field(default_factory=asyncio.Event)  # set when the server stops: streams end
    open: set[streams.Stream] = field(default_factory=set)  # streams that are open
    uploads: Slots = field(default_factory=lambda: Slots("uploads", UPLOADS, 1, UPLOADS_KEPT))

    def look(self) -> None:
        """End the open streams of people who have lost the right to them."""
        for stream in list(self.open):
            stream.look()


@dataclass(frozen=True, slots=True)
class Call:
    """One request, allowed when it arrived; `grant` checks again at the effect, and denies it on public routes."""

    services: Services
    grant: Granted
    request: Request
    bearer: Bearer | None = None

    @property
    def of(self) -> Coordinator:
        """The server behind the API."""
        return self.services.coordinator

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def noted(self, action: str, thing: str = "") -> Granted:
        """Return the grant; its effect is recorded in the audit trail in the same step."""
        about = thing or self.thing
        return replace(self.grant, note=lambda person: self.of.note(person.actor, action, about))

    async def body(self, limit: int) -> bytes:
        """Return the request's body, as `reading.body` does."""
        return await reading.body(self.request, limit, self.grant.check)

    async def read(self, kind: type[V]) -> V:
        """Return the view that the request's body is. Raises `BadInput`."""
        return reading.read(await self.body(reading.MAX_BODY), kind)

    @property
    def thing(self) -> str:
        """What the request is about, for the audit trail: a job, a site, else where it comes from."""
        return thing(self.request)


Answer = views.View | list[Any] | Response | streams.Stream
Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter; text, unless it is a number or a boolean."""

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
        """Whether the audit trail records it: changes, and downloads of code and models."""
        return self.method != "GET" or self.needs in ("clone", "download")

    @property
    def action(self) -> str:
        """The action in the audit trail: the name of the right, or the path where that says more."""
        wide = self.needs in ("public", "known", "operate_site", "operate_server")
        return self.path.rpartition("/")[2] if wide else self.needs


def thing(request: Request) -> str:
    """Return what a request is about, for the audit trail: a job, a site, a person, else where it comes from."""
    for kind in ("job", "site", "admin"):
        if kind in request.path_params:
            return f"{kind}:{request.path_params[kind]}"
    host = request.client.host if request.client else ""
    return f"from:{host.removeprefix('::ffff:')}" if host else ""  # an IPv4 address as a socket of both families has it
