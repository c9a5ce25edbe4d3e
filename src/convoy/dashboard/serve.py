"""Serves the dashboard on 127.0.0.1, to one person's browser, for as long as its command runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn

from convoy.admin.client import Client
from convoy.dashboard import app
from convoy.dashboard.guard import Session
from convoy.dashboard.pulse import INTERVAL_S, Pulse
from convoy.wire.door import bound
from convoy.wire.health import QuietServer

HOST: Final = "127.0.0.1"
MAX_HEAD: Final = 64 << 10  # bytes of a request's line and headers; a browser sends all cookies of 127.0.0.1
DRAIN_S: Final = 2.0  # for requests that are being answered when the dashboard ends


@asynccontextmanager
async def serving(client: Client, *, port: int = 0, interval_s: float = INTERVAL_S) -> AsyncIterator[Session]:
    """Serve for as long as the context lasts; `port` 0 is a free one. Raises `BadInput` when the port is taken."""
    sock = bound(HOST, port, setting="--port PORT")
    session = Session(sock.getsockname()[1])
    pulse = Pulse(client, interval_s)
    await pulse.look()
    guard, services = app.build(client, session, pulse)
    settings = uvicorn.Config(
        guard,
        host=HOST,
        port=session.port,
        log_config=None,
        lifespan="off",
        http="h11",
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    settings.load()
    server = QuietServer(settings)
    server.lifespan = settings.lifespan_class(settings)
    await server.startup(sockets=[sock])
    looking = asyncio.create_task(pulse.run())
    try:
        yield session
    finally:
        looking.cancel()
        services.streams.closing.set()
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=DRAIN_S)
        server.force_exit = True
        await server.shutdown(sockets=[sock])
        await asyncio.wait({looking})
