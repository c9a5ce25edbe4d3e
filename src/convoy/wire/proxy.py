"""The HTTP proxy that the environment names, and its tunnels."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import socket
from dataclasses import dataclass, field
from typing import Final

from convoy.errors import Unreachable

MAX_ANSWER: Final = 16 << 10  # bytes of a proxy's answer, which is a few lines


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens tunnels; `authorization` is a header's value, or nothing."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


def proxy_for(host: str) -> Proxy | None:
    """Return the proxy that `https_proxy` names for this host, and `no_proxy` does not exclude.

    A proxy elsewhere cannot reach this machine's loopback: nothing for it goes there.
    """
    said = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    if not said or is_loopback(host):
        return None
    from urllib.parse import unquote, urlsplit  # loaded only here, because few sites have a proxy
    from urllib.request import proxy_bypass

    if proxy_bypass(host):
        return None
    parts = urlsplit(said if "://" in said else f"http://{said}")
    if not parts.hostname:
        raise Unreachable("the variable https_proxy names no host", why="wanted: http://NAME:PASSWORD@HOST:PORT")
    secret = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    login = f"Basic {base64.b64encode(secret.encode()).decode()}" if parts.username else ""
    return Proxy(parts.hostname, parts.port or 80, login)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself: `localhost`, a name below it, or a loopback address."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


async def through(sock: socket.socket, target: str, proxy: Proxy) -> None:
    """Ask a proxy for a tunnel (RFC 9110, section 9.3.6). Raises `Unreachable` if it refuses."""
    loop = asyncio.get_running_loop()
    login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    await loop.sock_sendall(sock, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = await loop.sock_recv(sock, 1)  # not a byte more: what follows is TLS
        answer += more
        if not more or len(answer) > MAX_ANSWER:
            raise Unreachable(
                f"the proxy {proxy.host}:{proxy.port} closed the connection", why=f"it was asked for {target}"
            )
    status = answer.split(b"\r\n", 1)[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise Unreachable(f"the proxy {proxy.host}:{proxy.port} refuses a tunnel to {target}", why=f"it says: {status}")
