"""A page's route, and what its handler gets: the request, the person's client, what was seen last, the templates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qsl

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from convoy.control import rights
from convoy.dashboard.bundles import Bundles
from convoy.dashboard.drafts import Drafts
from convoy.dashboard.histories import Histories
from convoy.dashboard.rendering import THEME_COOKIE, THEMES
from convoy.errors import BadInput, NotAllowed

if TYPE_CHECKING:
    from convoy.admin.client import Client
    from convoy.dashboard.federation_state import FederationState
    from convoy.dashboard.guard import Session
    from convoy.dashboard.rendering import Pages
    from convoy.dashboard.streams import Streams
    from convoy.dashboard.verification import Verification

MAX_FORM: Final = 64 << 10  # bytes of a form
MAX_FIELDS: Final = 100  # of a form
MAX_SEARCH: Final = 100  # characters of a text that is searched for
CSRF_HEADER: Final = "x-convoy-csrf"  # for scripts; a form has it as its field `csrf`


@dataclass(frozen=True, slots=True)
class Services:
    """What all pages share."""

    client: Client
    federation_state: FederationState
    pages: Pages
    session: Session
    streams: Streams
    verification: Verification
    bundles: Bundles = field(default_factory=Bundles)
    histories: Histories = field(default_factory=Histories)
    drafts: Drafts = field(default_factory=Drafts)


@dataclass(frozen=True, slots=True)
class Frame:
    """What the pages of every dashboard share, a person's and a site's."""

    pages: Pages
    session: Session
    streams: Streams


class Visit(ABC):
    """One request, after the guard; `form` has the fields of a POST, whose CSRF value was right."""

    __slots__ = ()

    @property
    @abstractmethod
    def request(self) -> Request:
        """The request."""

    @property
    @abstractmethod
    def frame(self) -> Frame:
        """What all pages share."""

    @abstractmethod
    def shown(self) -> dict[str, Any]:
        """Return what the frame of a page shows: `seen`, `places`, `project`."""

    def query(self, name: str) -> str:
        """Return a parameter of the address, cut to `MAX_SEARCH`; empty if it is not there."""
        return self.request.query_params.get(name, "")[:MAX_SEARCH].strip()

    def number(self, name: str, default: int, most: int) -> int:
        """Return a whole number from 1 to `most` of the address; the default for anything else."""
        text = self.query(name)
        return min(int(text), most) if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) else default

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def text(self, template: str, **values: Any) -> Markup:
        """Return a template's HTML, as a part of a page; the template also sees what every page shows."""
        theme = self.request.cookies.get(THEME_COOKIE, "")
        shown = {
            "call": self,
            "theme": theme if theme in THEMES else THEMES[0],
            "csrf": self.frame.session.csrf,
            "here": self.request.url.path,
        }
        return self.frame.pages.text(template, shown | self.shown() | values)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a whole page."""
        return HTMLResponse(self.text(template, **values), status)


@dataclass(frozen=True, slots=True)
class Call(Visit):
    """A request to the dashboard of a person, who has a client of the server."""

    services: Services
    request: Request
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def frame(self) -> Frame:
        """What all pages share."""
        return Frame(self.services.pages, self.services.session, self.services.streams)

    @property
    def client(self) -> Client:
        """The person's client."""
        return self.services.client

    def may(self, right: rights.Right, *, org: str = "", submitter: str = "") -> bool:
        """Return whether to offer what needs this right, over a thing of this organisation or person.

        This only decides what a page shows. Whether it is allowed, the server decides when it is asked.
        """
        person = self.services.federation_state.seen.person
        if person is None:
            return False
        own, same_org = submitter == person.name != "", org == person.org != ""
        return rights.allows(person.role, right, own=own, same_org=same_org)

    def shown(self) -> dict[str, Any]:
        """Return what the frame of a page shows."""
        return {
            "seen": self.services.federation_state.seen,
            "places": [place for place in self.services.pages.places if self.may(place.right)],
            "project": self.services.client.project,
        }


Handler = Callable[[Any], Awaitable[Response]]  # of a `Call`, or of what a site's dashboard has in its place


@dataclass(frozen=True, slots=True)
class Route:
    """A row of a page's table: GET to look, POST to change something."""

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    reads: Literal["form", "body"] = "form"  # body: the handler reads it; the CSRF value is in the header


async def read_form(request: Request, session: Session) -> dict[str, str]:
    """Return the fields of a form. Raises `NotAllowed` for one of another site, `BadInput` for what is no form."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise BadInput(f"the form has more than {MAX_FORM:,} bytes", fix="send less")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as problem:
        raise BadInput("the form cannot be read", why=str(problem), fix="reload the page and try again") from problem
    form = dict(pairs)
    check_csrf(request.headers.get(CSRF_HEADER) or form.pop("csrf", ""), session)
    return form


def check_csrf(given: str, session: Session) -> None:
    """Raise `NotAllowed` unless the value is that of this session's pages."""
    if not session.is_ours(given):
        raise NotAllowed(
            "this form is not from a page of this dashboard",
            why="its CSRF value is missing or belongs to an earlier run",
            fix="reload the page and try again",
        )
