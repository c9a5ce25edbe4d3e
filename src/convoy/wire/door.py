"""The server's port for sites: accepts connections, does a bounded number of handshakes, passes each one on."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import math
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, Self

import structlog

from convoy import errors
from convoy.errors import BadInput, ConvoyError, NotAllowed
from convoy.wire.budget import Budgets, Rate
from convoy.wire.stream import Stream

EVERY: Final = "::"  # the host that means every address of this machine
BACKLOG: Final = 1024  # a thousand sites may reconnect at the same moment
HANDSHAKE_S: Final = 10.0  # for the whole handshake, over the slowest link
HANDSHAKES: Final = 512  # at a time, at most seven eighths of them from one origin; one more closes the oldest
COMERS: Final = Rate(200, 1 << 30, 5, math.inf)  # 200 connections a second from one origin, 1,000 at once
MAX_ORIGINS: Final = 4096  # origins whose connections are counted
BROKEN: Final = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP)  # a socket that does not listen
FULL_S: Final = 1.0  # until the next attempt, when this process has no free descriptor and no client disconnects


def bound(host: str, port: int, *, setting: str) -> socket.socket:
    """Return a socket bound to a TCP port, not listening yet; `BadInput` where it is taken names its `setting`."""
    name = f"[{host}]" if ":" in host else host
    try:
        return opened(host, port)
    except PermissionError as problem:
        raise BadInput(
            f"port {port} on {name} may not be opened by this user",
            why=str(problem),
            fix=f"choose one from 1024 up: {setting}; or let this user open it (CAP_NET_BIND_SERVICE)",
        ) from problem
    except OSError as problem:
        raise BadInput(
            f"port {port} on {name} cannot be opened",
            why=str(problem),
            fix=f"stop what listens there, or choose another: {setting}",
        ) from problem


def opened(host: str, port: int) -> socket.socket:
    """Return a socket bound to a TCP port. Raises `OSError`.

    `::` is every address of both families; on a machine without IPv6 it is every address of IPv4.
    """
    if host != EVERY:
        return _bound(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)
    try:
        return _bound(socket.AF_INET6, host, port)
    except OSError as problem:
        if problem.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return _bound(socket.AF_INET, "", port)


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so named, asyncio sends without delay
    try:
        if host == EVERY:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def origin(address: str) -> str:
    """Return what counts as one place on the network: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found), 64), strict=False))


class Waiting:
    """The clients that are not admitted yet, by origin, oldest first, each with a function that disconnects it.

    One origin has at most seven eighths of the places; one more disconnects the oldest of that origin. When all places
    are taken, the oldest of the origin with the most is disconnected: one address cannot keep others out.
    """

    def __init__(self, most: int) -> None:
        """Start without clients."""
        self._most = most
        self._each = most - most // 8
        self._origins: dict[object, str] = {}
        self._waiting: dict[str, dict[object, Callable[[], object]]] = {}

    def __len__(self) -> int:
        return len(self._origins)

    def enter(self, who: object, end: Callable[[], object], where: str) -> None:
        """Add a client; one that waits already keeps its place."""
        if who in self._origins:
            return
        self._origins[who] = where
        self._waiting.setdefault(where, {})[who] = end
        if len(self._waiting[where]) > self._each:
            self._end_oldest(where)
        elif len(self._origins) > self._most:
            self._end_oldest(max(self._waiting, key=lambda origin: len(self._waiting[origin])))

    def _end_oldest(self, where: str) -> None:
        oldest, end = next(iter(self._waiting[where].items()))
        self.leave(oldest)
        end()

    def leave(self, who: object) -> None:
        """Remove a client."""
        where = self._origins.pop(who, None)
        if where is not None:
            del self._waiting[where][who]
            if not self._waiting[where]:
                del self._waiting[where]


class Reception(ABC):
    """Listens on a bound socket, and handles each connection in a task of its own.

    A bug in one task ends only that connection. If the socket stops listening, the context ends: that is better than a
    port that silently accepts nobody.
    """

    def __init__(self, sock: socket.socket, waiting: Waiting) -> None:
        """Take the socket over; a client is in `waiting` until it is admitted or disconnects."""
        self._sock = sock
        self._waiting = waiting
        self._guests: set[asyncio.Task[None]] = set()
        self._some_left = asyncio.Event()
        self._paces = Budgets(COMERS, MAX_ORIGINS)
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        self._sock.setblocking(False)
        self._sock.listen(BACKLOG)
        await self._group.__aenter__()
        self._accepting = self._group.create_task(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shut(0)
        await self._group.__aexit__(kind, problem, trace)

    async def shut(self, grace_s: float) -> None:
        """Accept no more connections; after a while, abort those that are still open."""
        self._accepting.cancel()
        await asyncio.wait({self._accepting})
        self._sock.close()
        if self._guests:
            await asyncio.wait(self._guests, timeout=grace_s)
        for guest in self._guests:
            guest.cancel()
        if self._guests:
            await asyncio.wait(self._guests)

    @abstractmethod
    async def _welcome(self, sock: socket.socket) -> None:
        """Handle a connection until this returns; the caller closes the socket."""

    async def _accept(self) -> None:
        async for sock, address in self._arrivals():
            guest = self._group.create_task(self._guest(sock, address))
            self._guests.add(guest)
            guest.add_done_callback(partial(self._left, sock))
            try:
                self._waiting.enter(guest, guest.cancel, origin(address))
            except Exception:  # noqa: BLE001 - the supervisor of the door: our bug at one connection is not all others'
                guest.cancel()
                structlog.get_logger().exception("a connection was not accepted because of a bug")

    async def _arrivals(self) -> AsyncIterator[tuple[socket.socket, str]]:
        loop = asyncio.get_running_loop()
        while True:
            self._some_left.clear()
            try:
                arrived, address = await loop.sock_accept(self._sock)
            except OSError as problem:
                if problem.errno in BROKEN:
                    raise
                structlog.get_logger().error("a connection cannot be accepted", reason=str(problem))
                with suppress(TimeoutError):  # no descriptors or no memory: some are freed when a client disconnects
                    async with asyncio.timeout(FULL_S):
                        await self._some_left.wait()
                continue
            yield arrived, address[0]

    async def _guest(self, sock: socket.socket, address: str) -> None:
        try:
            wait = self._paces.of(origin(address)).takes(within_s=HANDSHAKE_S / 10)
            if wait is None:  # the client may try again; so no client waits endlessly behind a flood
                sock.close()
                return
            await asyncio.sleep(wait)
            await self._welcome(sock)
        except Exception:  # noqa: BLE001 - the supervisor of connections: our bug in one must not end the others
            structlog.get_logger().exception("a connection was ended by a bug")

    def _left(self, sock: socket.socket, guest: asyncio.Task[None]) -> None:
        if guest.cancelled():
            sock.close()  # close it if it ended before its task ran; TLS owns all others
        self._guests.discard(guest)
        self._waiting.leave(guest)
        self._some_left.set()


class Door(Reception):
    """The port for sites: every connection does a handshake, and then has a task for as long as it lasts."""

    def __init__(
        self,
        sock: socket.socket,
        context: Callable[[], ssl.SSLContext],
        serve: Callable[[Stream], Awaitable[None]],
        refused: Callable[[NotAllowed], None],
    ) -> None:
        """`context` is called for each connection; `serve` has the stream until it returns.

        `refused` is called for a client without a certificate of the root.
        """
        super().__init__(sock, Waiting(HANDSHAKES))
        self._refused = refused
        self._context = context
        self._serve = serve

    async def _welcome(self, sock: socket.socket) -> None:
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 - `_guest` runs in one
        stream = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = Stream(self._context().wrap_socket(sock, server_side=True, do_handshake_on_connect=False))
            if not await self._known(stream):
                return
            self._waiting.leave(me)
            await self._serve(stream)
        except NotAllowed as problem:
            structlog.get_logger().warning("a connection was refused after the handshake", reason=errors.line(problem))
        except (ConvoyError, OSError) as problem:
            structlog.get_logger().debug("a connection ended", reason=str(problem))
        finally:
            sock.close()  # unless TLS owns it
            if stream is not None:
                stream.close()

    async def _known(self, stream: Stream) -> bool:
        """Do the handshake; return whether the client showed a certificate of the root."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await stream.handshake()
        except NotAllowed as problem:
            structlog.get_logger().warning("a connection was refused in the handshake", reason=errors.line(problem))
            self._refused(problem)
            return False
        return True
