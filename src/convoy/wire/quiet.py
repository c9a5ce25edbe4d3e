"""uvicorn inside of a node: without handlers of signals, and without its loop that wakes ten times a second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import socket
from typing import Any

import uvicorn


class QuietServer(uvicorn.Server):
    """A uvicorn server that leaves signals to its process's own handlers."""

    def install_signal_handlers(self) -> None:
        """Install nothing."""

    def capture_signals(self) -> Any:
        """Capture nothing."""
        from contextlib import nullcontext

        return nullcontext()


@asynccontextmanager
async def serving(app: Any, sock: socket) -> AsyncIterator[None]:
    """Serve an ASGI application over plain HTTP on a bound socket for as long as the context lasts."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", http="h11", ws="none")
    made = QuietServer(config)
    config.load()
    made.lifespan = config.lifespan_class(config)
    await made.startup(sockets=[sock])  # and not its main loop, which wakes ten times a second
    try:
        yield
    finally:
        made.force_exit = True
        await made.shutdown(sockets=[sock])
