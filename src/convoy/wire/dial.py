"""Connects a site to its server: TCP, through a proxy if the environment names one, then TLS."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Final

from convoy.errors import Unreachable
from convoy.wire import tls
from convoy.wire.proxy import proxy_for, through
from convoy.wire.stream import Stream, words

DIAL_S: Final = 10.0  # from nothing to TLS, over the slowest link


@dataclass(frozen=True, slots=True)
class Way:
    """The server's address and how to reach it."""

    host: str
    port: int
    files: tls.Files  # with the certificate that the site has when it connects

    async def dial(self) -> Stream:
        """Return a connection to the server. Raises `Unreachable`, and `NotAllowed` for a server of another project."""
        try:
            async with asyncio.timeout(DIAL_S):
                sock = await self._connected()
                stream = None
                try:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    context = tls.site_context(self.files)  # with the certificate that the site has now
                    stream = Stream(context.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False))
                    await stream.handshake()
                except BaseException:
                    (sock if stream is None else stream).close()
                    raise
                return stream
        except TimeoutError:
            raise Unreachable(f"{self._name} is not reached", why=f"no answer within {DIAL_S:g} s") from None
        except OSError as problem:
            raise Unreachable(f"{self._name} is not reached", why=words(problem)) from problem

    @property
    def _name(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def _connected(self) -> socket.socket:
        proxy = proxy_for(self.host)
        if proxy is None:
            return await _tcp(self.host, self.port)
        sock = await _tcp(proxy.host, proxy.port)
        try:
            await through(sock, self._name, proxy)
        except BaseException:
            sock.close()
            raise
        return sock


async def _tcp(host: str, port: int) -> socket.socket:
    """Return a connection to the first of a host's addresses that answers. Raises the `OSError` of the last one."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    problem: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as refused:
            sock.close()
            problem = refused
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise problem or OSError(f"{host} has no address")
