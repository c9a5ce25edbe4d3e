"""The client's connection to a server: HTTP over TLS 1.3 that trusts one root; it converts errors to Convoy's."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import httpcore

from convoy.admin import faults, parsing
from convoy.errors import BadInput, NotAllowed, RemoteFault, Unreachable
from convoy.spec.kit import Kit
from convoy.wire.proxy import proxy_for

CONNECT_S: Final = 10.0  # from nothing to TLS, over the slowest link
READ_S: Final = 45.0  # three intervals of an idle stream's keep-alive lines
MAX_ANSWER: Final = 64 << 20  # bytes of an answer that is read as a whole: the largest bundle
V1: Final = "/api/v1"  # the prefix of every path
CALLS: Final = 8  # connections for requests that are answered at once
STREAMS: Final = 128  # connections for answers that go on: two for each live page of a dashboard
MAX_LINE: Final = 16 << 20  # bytes of one line of a stream: a job of a thousand sites and rounds


def path(*parts: str) -> str:
    """Return the path of these parts below `V1`, each quoted as a whole."""
    return "".join(f"/{quote(part, safe='', errors='replace')}" for part in parts)


class Broken(Unreachable):
    """The connection broke after it was established: try again."""


@dataclass(slots=True)
class Link:
    """Connections to one server, kept open between requests."""

    host: str
    port: int
    root_pem: bytes
    certified: str = ""  # the name in the server's certificate, where that is not the host
    _calls: httpcore.AsyncConnectionPool = field(init=False)
    _streams: httpcore.AsyncConnectionPool = field(
        init=False
    )  # of their own: however many there are, calls get through

    def __post_init__(self) -> None:
        self._calls, self._streams = self._pool(CALLS), self._pool(STREAMS)

    def _pool(self, most: int) -> httpcore.AsyncConnectionPool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self.root_pem.decode())
        proxy = proxy_for(self.host)
        if proxy is None:
            return httpcore.AsyncConnectionPool(ssl_context=context, max_connections=most, keepalive_expiry=60)
        login = [("Proxy-Authorization", proxy.authorization)] if proxy.authorization else []
        url = httpcore.URL(scheme=b"http", host=proxy.host.encode(), port=proxy.port, target=b"/")
        return httpcore.AsyncHTTPProxy(
            url, proxy_headers=login, ssl_context=context, max_connections=most, keepalive_expiry=60
        )

    @property
    def name(self) -> str:
        """HOST:PORT as it stands in a URL: an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def close(self) -> None:
        """Close every connection."""
        await self._calls.aclose()
        await self._streams.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patience_s: float = READ_S,
    ) -> bytes:
        """Return the JSON text that a request is answered with; raises the error that the server described."""
        async with self._open(
            self._calls, method, path, content=content, headers=headers, patience_s=patience_s
        ) as chunks:
            data = bytearray()
            async for chunk in chunks:
                data += chunk
                if len(data) > MAX_ANSWER:
                    raise RemoteFault(f"the server's answer to {path} is larger than {MAX_ANSWER} bytes")
        return bytes(data)

    def open(
        self, method: str, path: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the chunks of an answer that may go on for long; raises the error that the server described."""
        return self._open(self._streams, method, path, content=content, headers=headers, patience_s=READ_S)

    @asynccontextmanager
    async def _open(
        self,
        pool: httpcore.AsyncConnectionPool,
        method: str,
        path: str,
        *,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        patience_s: float,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        times = {"connect": CONNECT_S, "read": patience_s, "write": patience_s, "pool": CONNECT_S}
        url = httpcore.URL(scheme=b"https", host=self.host.encode(), port=self.port, target=path.encode())
        named = [("host", self.name), *(headers or {}).items()]
        extensions = {"timeout": times} | ({"sni_hostname": self.certified} if self.certified else {})
        try:
            async with pool.stream(method, url, headers=named, content=content, extensions=extensions) as response:
                chunks = response.aiter_stream()
                if response.status >= 300:
                    raise faults.from_json(parsing.parsed(await _some(chunks)), response.status)
                yield chunks
        except httpcore.ConnectError as problem:
            raise self._no_connection(problem) from problem
        except httpcore.ConnectTimeout as problem:
            raise Unreachable(
                f"{self.name} does not answer",
                why=f"no connection within {CONNECT_S:.0f} s",
                fix="check the address and the firewall in between",
            ) from problem
        except httpcore.PoolTimeout as problem:
            raise Unreachable(
                f"no connection to {self.name} is free",
                why=f"{CALLS} requests and {STREAMS} streams are under way at once",
                fix="close some pages or streams, and try again",
            ) from problem
        except httpcore.ProxyError as problem:
            raise Unreachable(f"the proxy does not lead to {self.name}", why=str(problem)) from problem
        except httpcore.TimeoutException as problem:
            raise Broken(f"{self.name} stopped answering", why=f"for {patience_s:.0f} s") from problem
        except ssl.SSLError as problem:  # raised after the handshake: TLS 1.3 asks for certificates late
            raise NotAllowed(
                f"{self.name} asks for a certificate in the connection",
                why=f"as the server's port for sites does ({problem.reason})",
                fix="people use its other port, admin_port in startup/convoy.yaml: --server HOST, or HOST:ADMIN_PORT",
            ) from problem
        except (httpcore.NetworkError, httpcore.ProtocolError) as problem:
            raise Broken(
                f"the connection to {self.name} broke",
                why=str(problem) or type(problem).__name__,
                fix="try again; `convoy status` says whether the server runs",
            ) from problem

    def _no_connection(self, problem: httpcore.ConnectError) -> Unreachable | NotAllowed:
        cause: BaseException | None = problem
        while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            return Unreachable(
                f"no server answers at {self.name}",
                why=str(problem),
                fix="start the server (`convoy up` on this machine), or name another with --server HOST:PORT",
            )
        if "expired" in cause.verify_message or "not yet valid" in cause.verify_message:
            return NotAllowed(
                f"the certificate of {self.name} is not valid now",
                why=f"{cause.verify_message}; here it is {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
                fix="look at this machine's clock, then at the server's: it renews its certificate by itself",
            )
        return NotAllowed(
            f"{self.name} is not the server of your kit",
            why=cause.verify_message,
            fix="use the kit of that server's project, and a host name that its certificate lists; if the project has "
            "a new root by now: ask for a new kit (convoy kit invite NAME)",
        )


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a stream that are not empty; raises the error that its last line may describe."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE:
            raise RemoteFault(f"the server sent a line longer than {MAX_LINE} bytes")
        for line in whole:
            if line.startswith(b'{"error":'):
                said = parsing.parsed(line)
                raise faults.from_json(said["error"] if isinstance(said, dict) else None, 200)
            if line:
                yield line


async def _some(chunks: AsyncIterator[bytes]) -> bytes:
    data = bytearray()
    async for chunk in chunks:
        data += chunk[: faults.MAX_BYTES - len(data)]
    return bytes(data)


async def limited(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield the chunks; raises `RemoteFault` beyond `limit` bytes."""
    async for chunk in chunks:
        limit -= len(chunk)
        if limit < 0:
            raise RemoteFault("the server sends more than was asked for")
        yield chunk


def address(server: str, kit: Kit) -> tuple[str, int]:
    """Return host and port of `server`, what it leaves out from the kit. Raises `BadInput`."""
    if not server:
        return kit.host, kit.admin_port
    host, colon, port = server.rpartition(":") if not server.endswith("]") else (server, "", "")
    if not colon or (":" in host and not host.startswith("[")):  # a bare name, or a bare IPv6 address
        return server.strip("[]"), kit.admin_port
    if not port.isdecimal() or not 1 <= int(port) <= 65535 or not host:
        raise BadInput(f"{server!r} is not an address", why="wanted HOST or HOST:PORT, such as localhost:8003")
    if int(port) == kit.fed_port:
        raise BadInput(
            f"{port} is the server's port for sites",
            why=f"people use {kit.admin_port}",
            fix=f"--server {host}",
        )
    return host.strip("[]"), int(port)
