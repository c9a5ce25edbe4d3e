"""Serves the dashboard on 127.0.0.1, to one person's browser, for as long as its command runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from typing import Any, Final

import uvicorn

from convoy.admin.client import Client
from convoy.dashboard import app, own_app
from convoy.dashboard.changed import AGES_S, PAUSE_S
from convoy.dashboard.federation_state import FederationState
from convoy.dashboard.guard import Guard, Session
from convoy.dashboard.site_state import Watch
from convoy.dashboard.streams import Streams
from convoy.errors import Bug
from convoy.spec.kit import Kit
from convoy.wire.door import bound
from convoy.wire.quiet import QuietServer

HOST: Final = "127.0.0.1"
MAX_HEAD: Final = 64 << 10  # bytes of a request's line and headers; a browser sends all cookies of 127.0.0.1
DRAIN_S: Final = 2.0  # for requests that are being answered when the dashboard ends


@asynccontextmanager
async def serving(client: Client, *, port: int = 0) -> AsyncIterator[Session]:
    """Serve for as long as the context lasts; `port` 0 is a free one. Raises `BadInput` when the port is taken."""
    with closing(bound(HOST, port, setting="--port PORT")) as sock:
        session = Session(sock.getsockname()[1])
        federation_state = FederationState(client)
        nothing = federation_state.seen
        guard, services = app.build(client, session, federation_state)
        async with _served(guard, sock, services.streams, federation_state.run()):
            await federation_state.latest.newer(nothing)
            yield session


@asynccontextmanager
async def serving_site(
    kit: Kit, *, port: int = 0, pause_s: float = PAUSE_S, ages_s: float = AGES_S
) -> AsyncIterator[Session]:
    """Serve the pages of a site's owner, from the files of its kit. Raises `BadInput` when the port is taken."""
    with closing(bound(HOST, port, setting="--port PORT")) as sock:
        session = Session(sock.getsockname()[1])
        watch = Watch(kit, pause_s, ages_s)
        await watch.look()
        guard, site_state = own_app.build(kit, session, watch)
        async with _served(guard, sock, site_state.frame.streams, watch.run()):
            yield session


@asynccontextmanager
async def _served(
    guard: Guard, sock: socket.socket, streams: Streams, run: Coroutine[Any, Any, None]
) -> AsyncIterator[None]:
    """Serve an application on a socket while `run` runs."""
    settings = uvicorn.Config(
        guard,
        host=HOST,
        port=sock.getsockname()[1],
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
    looking, serving_ = asyncio.create_task(run), asyncio.current_task()

    def over(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None and serving_ is not None:
            serving_.cancel()  # pages would show an old state as the present

    looking.add_done_callback(over)
    try:
        yield
    except asyncio.CancelledError:
        if looking.done() and not looking.cancelled() and (problem := looking.exception()) is not None:
            raise Bug("the dashboard cannot look at the state any more", why=repr(problem)) from problem
        raise
    finally:
        looking.remove_done_callback(over)
        looking.cancel()
        streams.closing.set()
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=DRAIN_S)
        server.force_exit = True
        await server.shutdown(sockets=[sock])
        await asyncio.wait({looking})
