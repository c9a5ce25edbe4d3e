"""A site's way to its server: a TCP connection, through a proxy where the environment names one, then TLS."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from convoy.errors import Unreachable
from convoy.wire.stream import Stream, words

DIAL_S: Final = 10.0  # from nothing to TLS, over the slowest link
MAX_ANSWER: Final = 16 << 10  # bytes of a proxy's answer


@dataclass(frozen=True, slots=True)
class Way:
    """Where the server is."""

    host: str
    port: int
    context: ssl.SSLContext

    async def dial(self) -> Stream:
        """Return a connection to the server. Raises `Unreachable`, and `NotAllowed` for a foreign server."""
        try:
            async with asyncio.timeout(DIAL_S):
                sock = await self._connected()
                stream = None
                try:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    stream = Stream(
                        self.context.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
                    )
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
        proxy = _proxy(self.host)
        if proxy is None:
            return await _tcp(self.host, self.port)
        sock = await _tcp(proxy.host, proxy.port)
        try:
            await _through(sock, self._name, proxy)
        except BaseException:
            sock.close()
            raise
        return sock


async def _tcp(host: str, port: int) -> socket.socket:
    """Return a connection to the first of a host's addresses that answers. Raises `OSError`: what the last one said."""
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


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens tunnels; `authorization` is a header's value, or nothing."""

    host: str
    port: int
    authorization: str = ""


def _proxy(host: str) -> Proxy | None:
    """Return the proxy that `https_proxy` names for this host, and `no_proxy` does not except."""
    said = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    if not said:
        return None
    from urllib.parse import unquote, urlsplit  # few sites have a proxy
    from urllib.request import proxy_bypass

    if proxy_bypass(host):
        return None
    parts = urlsplit(said if "://" in said else f"http://{said}")
    if not parts.hostname:
        raise Unreachable("https_proxy of the environment names no host", why=f"it is {said!r}")
    secret = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    login = f"Basic {base64.b64encode(secret.encode()).decode()}" if parts.username else ""
    return Proxy(parts.hostname, parts.port or 80, login)


async def _through(sock: socket.socket, target: str, proxy: Proxy) -> None:
    """Ask a proxy for a tunnel (RFC 9110, section 9.3.6). Raises `Unreachable` if it says no."""
    loop = asyncio.get_running_loop()
    login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    await loop.sock_sendall(sock, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = await loop.sock_recv(sock, 1)  # not a byte more: what follows is TLS
        answer += more
        if not more or len(answer) > MAX_ANSWER:
            raise Unreachable(f"the proxy {proxy.host}:{proxy.port} hung up", why=f"it was asked for {target}")
    status = answer.split(b"\r\n", 1)[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise Unreachable(f"the proxy {proxy.host}:{proxy.port} opens no tunnel to {target}", why=f"it says: {status}")
