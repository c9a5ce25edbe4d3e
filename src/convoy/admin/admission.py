"""Admission to the REST API: limits of simultaneous requests and of rates, for each person and each address."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from convoy.admin import faults
from convoy.admin.logins import Logins
from convoy.admin.port import Person
from convoy.admin.slots import Slots
from convoy.control import rights
from convoy.errors import ConvoyError, NotAllowed
from convoy.wire.budget import Budgets, Rate
from convoy.wire.door import origin

MAX_REQUESTS: Final = 1000  # requests that are answered at a time, with streams: those of about a hundred people
MAX_OF_ONE: Final = 64  # of them from one person: a notebook that follows about fifty jobs
OPERATORS: Final = 100  # of them reserved for people who may revoke a site
MAX_STRANGERS: Final = 256  # requests of people who have not logged in that are answered at a time
MAX_OF_ORIGIN: Final = 192  # of them from one origin
PERSON: Final = Rate(50, 1 << 30, 4, math.inf)  # 50 requests a second from one person, 200 at once; further ones wait
STRANGER: Final = Rate(50, 1 << 30, 10, math.inf)  # 50 requests a second from one origin, 500 at once
MAX_KNOWN: Final = 4096  # people and origins whose requests are counted


class Admission:
    """The first step of every request; its place is held until its answer is sent, to the end of a stream."""

    def __init__(self, app: Any, logins: Logins) -> None:
        """Stand in front of an ASGI application."""
        self._app = app
        self._logins = logins
        self._people = Slots("requests", MAX_REQUESTS, MAX_OF_ONE, OPERATORS), Budgets(PERSON, MAX_KNOWN)
        self._strangers = Slots("requests", MAX_STRANGERS, MAX_OF_ORIGIN, 0), Budgets(STRANGER, MAX_KNOWN)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request when there is a place for it; refuse it otherwise, and disconnect clients that continue."""
        person, caller = self._who(scope), scope["state"]["caller"]
        places, budgets = self._strangers if person is None else self._people
        where = origin(scope["client"][0]) if scope["client"] else ""
        holder = where if person is None else person.name
        operator = person is not None and rights.may_operate(person.role)
        budget = budgets.of(holder)
        with ExitStack() as place:
            try:
                place.enter_context(places.taken(holder, operator=operator))
            except ConvoyError as problem:
                if budget.takes(within_s=0) is None:
                    caller.cut()
                else:
                    await JSONResponse(faults.to_json(problem), faults.status_of(problem))(scope, receive, send)
                return
            if person is not None:
                caller.known()
            await budget.spend(0)
            await self._app(scope, receive, send)

    def _who(self, scope: Any) -> Person | None:
        """Return the person who has logged in, else None."""
        try:
            return self._logins.who(self._logins.bearer(Headers(scope=scope).get("authorization", "")))
        except NotAllowed:
            return None
