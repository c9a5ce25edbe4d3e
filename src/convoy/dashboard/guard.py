"""The guard before every page: only this address, only this person's browser, only requests of our own pages.

Other web sites in the same browser and other names for 127.0.0.1 (DNS rebinding) get nothing and change nothing.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
ASSETS: Final = "/assets/"  # public files of this package; they need no cookie
CLOSED: Final = (
    "This browser has no session with this dashboard.\n\n"
    "The address that `convoy dashboard` printed works once, in one browser. End the command with Ctrl-C, start it "
    "again and open the new address. If the address was new and did not work, somebody else has opened it: end the "
    "command at once.\n"
)
ONWARD: Final = (
    '<!doctype html><meta charset="utf-8"><title>Convoy</title><meta http-equiv="refresh" content="0;url=/">'
)


@dataclass(slots=True)
class Session:
    """The secrets of one run of the dashboard: the token for the URL, the cookie, the value in every form."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    used: bool = False

    @property
    def url(self) -> str:
        """The address that a person opens once."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    @property
    def hosts(self) -> tuple[str, str]:
        """The values of the Host header that are this dashboard; a browser leaves out the port 80."""
        port = f":{self.port}" if self.port != 80 else ""
        return f"127.0.0.1{port}", f"localhost{port}"

    @property
    def cookie_name(self) -> str:
        """The cookie's name; cookies are the same for all ports, so it has the port in it."""
        return f"convoy-{self.port}"

    def take(self, token: str) -> bool:
        """Return whether this is the token, for the first time."""
        good = hmac.compare_digest(token.encode(), self.token.encode()) and not self.used
        self.used = self.used or good
        return good

    def knows(self, header: str) -> bool:
        """Return whether a Cookie header has the cookie of this session."""
        parts = (part.strip().partition("=") for part in header.split(";"))  # others' cookies may look in any way
        given = [value for name, _, value in parts if name == self.cookie_name]
        return any(hmac.compare_digest(value.encode(errors="replace"), self.cookie.encode()) for value in given)

    def is_ours(self, csrf: str) -> bool:
        """Return whether a form or a header has the value that only our own pages know."""
        return hmac.compare_digest(csrf.encode(errors="replace"), self.csrf.encode())


@dataclass(frozen=True, slots=True)
class Guard:
    """ASGI middleware around the whole application: it refuses, or passes on and adds the security headers."""

    app: ASGIApp
    session: Session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return  # there are no WebSockets here, and no lifespan
        answer = self._refusal(scope)
        await (answer or self.app)(scope, receive, _headed(scope, send))

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that does not reach the application; None if it does."""
        headers = Headers(scope=scope)
        if (foreign := self._foreign(scope["method"], headers)) is not None:
            return foreign
        if scope["path"] == "/" and scope["method"] == "GET" and (token := _token(scope)):
            return self._log_in(token, headers)
        if not scope["path"].startswith(ASSETS) and not self._is_known(headers):
            return _text(CLOSED, 403)
        return None

    def _foreign(self, method: str, headers: Headers) -> Response | None:
        """Return the answer to a request that another web site made, or that was sent to another address."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self.session.hosts:
            return _text(f"This is not the dashboard's address. It is http://{self.session.hosts[0]}/.\n", 421)
        if method not in ("GET", "HEAD", "POST"):
            return _text("Only GET, HEAD and POST are allowed.\n", 405)
        if method == "POST" and not _is_from_our_page(headers, hosts[0]):
            return _text("This request did not come from a page of the dashboard.\n", 403)
        if method != "POST" and not _may_look(headers):
            return _text("Another web site asked for this.\n", 403)
        return None

    def _is_known(self, headers: Headers) -> bool:
        return self.session.knows("; ".join(headers.getlist("cookie")))

    def _log_in(self, token: str, headers: Headers) -> Response:
        """Exchange the token for the cookie, and lead to the address without it.

        A browser sends no strict cookie after a redirect that another site began. So where one did (a chat, a file),
        our own page leads on.
        """
        known = self._is_known(headers)
        if not known and not self.session.take(token):
            return _text(CLOSED, 403)
        elsewhere = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
        answer: Response = HTMLResponse(ONWARD) if elsewhere else RedirectResponse("/", 303)
        if not known:
            name = self.session.cookie_name
            answer.set_cookie(name, self.session.cookie, path="/", httponly=True, samesite="strict")
        return answer


def _is_from_our_page(headers: Headers, host: str) -> bool:
    """Return whether the browser says that a page of this very address sends a request that changes something."""
    return (
        headers.getlist("origin") == [f"http://{host}"]
        and headers.get("sec-fetch-site", "same-origin") == "same-origin"
    )


def _may_look(headers: Headers) -> bool:
    """Return whether a request that reads comes from our own page or from the person, who follows a link or types."""
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return True
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _token(scope: Scope) -> str:
    query = scope["query_string"].decode("ascii", "replace")
    return parse_qs(query, max_num_fields=10).get("token", [""])[0] if query.count("&") < 10 else ""


def _text(said: str, status: int) -> Response:
    return PlainTextResponse(said, status)


def _headed(scope: Scope, send: Send) -> Send:
    """Return a `send` that adds the security headers to whatever is answered, errors included."""

    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers["cache-control"] = "no-cache" if scope["path"].startswith(ASSETS) else "no-store"
        await send(message)

    return headed
