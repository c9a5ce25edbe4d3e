"""How the server serves the REST API: TLS 1.3, in the caller's event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette

import convoy
from convoy.admin.app import build
from convoy.admin.connections import Connections
from convoy.admin.logins import Logins
from convoy.admin.port import Coordinator, Registrar
from convoy.trust.federation import Membership
from convoy.wire.door import bound
from convoy.wire.quiet import QuietServer

ADMIN_PORT: Final = "admin_port in project.yml, then run `convoy provision` again"
MAX_HEAD: Final = 16 << 10  # bytes of a request's line and headers; ours have about 300
DRAIN_S: Final = 5.0  # for requests that are being answered when the server stops


def app(coordinator: Coordinator, registrar: Registrar, membership: Membership) -> Starlette:
    """Return the application for this federation's people."""
    return build(coordinator, registrar, Logins(membership), version=convoy.__version__)


def config(served: Starlette, *, host: str, port: int, cert_file: Path, key_file: Path) -> uvicorn.Config:
    """Return uvicorn's settings, for `serving`."""
    return uvicorn.Config(
        served,
        host=host,
        port=port,
        log_config=None,
        lifespan="off",
        http="h11",
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # do not trust headers for identity and address
        timeout_keep_alive=75,  # seconds; a console's next command reuses its connection
        h11_max_incomplete_event_size=MAX_HEAD,
        ssl_certfile=cert_file,
        ssl_keyfile=key_file,
        ssl_context_factory=_tls13,
    )


def _tls13(_config: uvicorn.Config, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = make()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


@asynccontextmanager
async def serving(settings: uvicorn.Config) -> AsyncIterator[uvicorn.Server]:
    """Serve for as long as the context lasts; then answer open requests, end the streams and disconnect.

    Raises `BadInput` when the port is taken.
    """
    sock = bound(settings.host, settings.port, setting=ADMIN_PORT)
    settings.load()
    server = QuietServer(settings)
    async with Connections(server, sock):
        try:
            yield server
        finally:
            settings.app.state.closing.set()  # type: ignore[union-attr]
            if server.server_state.tasks:
                await asyncio.wait(set(server.server_state.tasks), timeout=DRAIN_S)
            for connection in list(server.server_state.connections):
                connection.transport.abort()
