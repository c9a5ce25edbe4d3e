"""Connections to the REST API before their request is complete: bounded in number and in time.

uvicorn has no time limit for a connection's first request, and asyncio allows a minute for the handshake: a few hundred
silent clients would keep everybody out. Here the oldest waiting connection is closed when there are too many, and
people who have logged in do not wait among unauthenticated clients.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from convoy.wire.door import HANDSHAKE_S, Reception, Waiting, origin

REQUEST_S: Final = 10.0  # for the head of a request, from the connection or from its first byte
WAITING: Final = 512  # handshakes and incomplete requests, at most seven eighths of them from one origin


class Caller(H11Protocol):
    """One connection: it waits until a request is complete, and again after the answer."""

    def __init__(self, waiting: Waiting, server: uvicorn.Server) -> None:
        """Keep the list of waiting connections that this one joins."""
        super().__init__(server.config, server.server_state, app_state={"caller": self})
        self._waiting = waiting
        self._known = False  # the request that is being answered is of somebody who has logged in
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def known(self) -> None:
        """The request is from a person who has logged in: leave the list of unauthenticated clients."""
        self._known = True
        self._waiting.leave(self)

    def cut(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Receive bytes; continue to wait if the request is not complete."""
        super().data_received(data)
        self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._known = False
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._waiting.leave(self)
        self._forgive()

    def _wait(self) -> None:
        state = self.conn.their_state
        if state is h11.IDLE and self.timeout_keep_alive_task is None:
            self._late = self._late or self.loop.call_later(REQUEST_S, self.transport.abort)
        else:
            self._forgive()
        if state in (h11.IDLE, h11.SEND_BODY) and not self._known and not self.transport.is_closing():
            self._waiting.enter(self, self.transport.abort, origin(self.client[0] if self.client else ""))
        else:
            self._waiting.leave(self)

    def _forgive(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Connections(Reception):
    """The port for people: every connection does its handshake in a task of its own, then uses HTTP."""

    def __init__(self, server: uvicorn.Server, sock: socket.socket) -> None:
        """Take the socket over; `server` keeps the connections, and does not listen itself."""
        super().__init__(sock, Waiting(WAITING))
        self._server = server

    async def _welcome(self, sock: socket.socket) -> None:
        loop, context = asyncio.get_running_loop(), self._server.config.ssl
        with suppress(OSError, TimeoutError):  # it disconnected, is too slow, or does not use TLS: no answer is needed
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer waits 40 ms for an ACK
            async with asyncio.timeout(HANDSHAKE_S):
                await loop.connect_accepted_socket(self._caller, sock, ssl=context)

    def _caller(self) -> Caller:
        return Caller(self._waiting, self._server)
