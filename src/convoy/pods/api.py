"""The cluster's API for a node in a pod: makes and removes Jobs and Secrets, watches pods, reads no Secret."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpcore

from convoy.errors import BadInput, ConvoyError, NotAllowed, NotFound, Refused, RemoteFault, Unreachable

Object = dict[str, Any]
ACCOUNT: Final = Path("/var/run/secrets/convoy/cluster")  # token, ca.crt, namespace
ANSWER_S: Final = 30.0  # for the API server to answer one request
WATCH_S: Final = 300  # a watch ends after so long and is started again, so that a broken connection is noticed
MAX_ANSWER: Final = 64 << 20  # bytes of one answer, or of one line of a watch: about a thousand pods
_PATHS: Final = {"Job": "apis/batch/v1", "Secret": "api/v1", "Pod": "api/v1"}


@dataclass(frozen=True, slots=True)
class Api:
    """The API server, with the identity of this pod's ServiceAccount; its token is read each time, as it changes."""

    url: httpcore.URL
    namespace: str
    token_file: Path
    pool: httpcore.AsyncConnectionPool

    async def create(self, it: Object) -> str:
        """Make an object and return its uid; "" if it exists already.

        Raises `NotAllowed`, `Refused`, `Unreachable`.
        """
        try:
            made = await self._ask("POST", it["kind"], content=json.dumps(it).encode())
        except AlreadyThere:
            return ""
        return str(made["metadata"]["uid"])

    async def remove(self, kind: str, name: str) -> None:
        """Remove an object and what belongs to it; a missing one is no error."""
        content = json.dumps({"propagationPolicy": "Background"}).encode()
        with suppress(NotFound):
            await self._ask("DELETE", kind, name, content=content)

    async def list(self, kind: str, labels: Mapping[str, str]) -> tuple[list[Object], str]:
        """Return the objects of a kind with these labels, and the resource version of the list."""
        said = await self._ask("GET", kind, query={"labelSelector": _selector(labels)})
        return said.get("items") or [], said["metadata"]["resourceVersion"]

    async def watch(self, labels: Mapping[str, str], since: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield each change of the pods with these labels since a version; the API server ends it after a while.

        Raises `Gone` if the version is too old: list again.
        """
        query = {
            "watch": "true",
            "labelSelector": _selector(labels),
            "resourceVersion": since,
            "timeoutSeconds": str(WATCH_S),
        }
        async with self._open("GET", "Pod", query=query, patience_s=WATCH_S + ANSWER_S) as response:
            async for line in _lines(response):
                said = _read(line)
                if said.get("type") == "ERROR":
                    raise Gone("the watch starts too far in the past", why=str(said.get("object", {}).get("message")))
                yield said["type"], said["object"]

    async def _ask(self, method: str, kind: str, name: str = "", **more: Any) -> Object:
        async with self._open(method, kind, name, **more) as response:
            return _read(await _whole(response) or b"{}")

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        kind: str,
        name: str = "",
        *,
        content: bytes | None = None,
        query: Mapping[str, str] | None = None,
        patience_s: float = ANSWER_S,
    ) -> AsyncIterator[httpcore.Response]:
        path = f"/{_PATHS[kind]}/namespaces/{self.namespace}/{kind.lower()}s{f'/{name}' if name else ''}"
        if query:
            path += "?" + "&".join(f"{key}={_quoted(value)}" for key, value in query.items())
        url = httpcore.URL(scheme=self.url.scheme, host=self.url.host, port=self.url.port, target=path.encode())
        try:
            token = self.token_file.read_text().strip()
        except OSError as problem:
            raise Unreachable("the token for the cluster cannot be read", why=str(problem)) from problem
        headers = [("Authorization", f"Bearer {token}"), ("Accept", "application/json")]
        if content is not None:
            headers.append(("Content-Type", "application/json"))
        times = {"connect": ANSWER_S, "read": patience_s, "write": ANSWER_S, "pool": ANSWER_S}
        doing = f"{method} {kind} {name}".strip()
        try:
            async with self.pool.stream(
                method, url, headers=headers, content=content, extensions={"timeout": times}
            ) as response:
                if response.status >= 300:
                    raise _refusal(doing, response.status, await _whole(response))
                yield response
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as problem:
            why = str(problem) or type(problem).__name__
            raise Unreachable(f"the cluster's API server is not reached ({doing})", why=why) from problem


class Gone(Unreachable):
    """The version at which a watch starts is too old: list again."""


class AlreadyThere(Refused):
    """An object of that name exists."""


@asynccontextmanager
async def connected(env: Mapping[str, str] = os.environ, account: Path = ACCOUNT) -> AsyncIterator[Api]:
    """Give the API of the cluster that this pod is in. Raises `BadInput` outside of a pod with access to it."""
    try:
        host, port = env["KUBERNETES_SERVICE_HOST"], int(env["KUBERNETES_SERVICE_PORT"])
        namespace = (account / "namespace").read_text().strip()
        context = ssl.create_default_context(cafile=str(account / "ca.crt"))
    except (KeyError, ValueError, OSError) as problem:
        raise BadInput(
            "`launcher: kubernetes` works inside a pod that may make Jobs",
            why=f"{type(problem).__name__}: {problem}",
            fix="let `convoy kube up` make the pod, or set `launcher: processes` in local/node.yaml",
        ) from problem
    url = httpcore.URL(scheme=b"https", host=host.encode(), port=port, target=b"/")
    async with httpcore.AsyncConnectionPool(ssl_context=context, max_connections=8) as pool:
        yield Api(url, namespace, account / "token", pool)


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


async def _whole(response: httpcore.Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_stream():
        data += chunk
        if len(data) > MAX_ANSWER:
            raise RemoteFault(f"the cluster's API server answers with more than {MAX_ANSWER >> 20} MiB")
    return bytes(data)


async def _lines(response: httpcore.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.aiter_stream():
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_ANSWER:
            raise RemoteFault(f"the cluster's API server sends a line of more than {MAX_ANSWER >> 20} MiB")
        for line in filter(None, whole):
            yield line


def _read(data: bytes) -> Object:
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError, RecursionError) as problem:
        raise RemoteFault("the cluster's API server does not answer in JSON", why=str(problem)[:200]) from problem


def _refusal(doing: str, status: int, body: bytes) -> ConvoyError:  # noqa: PLR0911 - a row for each kind of answer
    try:
        said = _read(body)
    except RemoteFault:
        said = {}
    why = str(said.get("message", "")) or body[:200].decode(errors="replace")
    match status:
        case 404:
            return NotFound(f"the cluster does not have this object ({doing})", why=why)
        case 409 if said.get("reason") == "AlreadyExists":
            return AlreadyThere(f"it exists already ({doing})", why=why)
        case 409:  # such as a quota that others change at the same time
            return Unreachable(f"the cluster's API server asks to try again ({doing})", why=why)
        case 410:
            return Gone(f"that version is too old ({doing})", why=why)
        case 401 | 403:
            return NotAllowed(
                f"the cluster does not allow this ({doing})", why=why, fix="`convoy kube up` makes the Role for it"
            )
        case status if status == 429 or status >= 500:
            return Unreachable(f"the cluster's API server cannot answer now ({doing})", why=why)
        case _:
            return Refused(f"the cluster refused ({doing})", why=why)
