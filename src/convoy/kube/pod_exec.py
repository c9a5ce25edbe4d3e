"""A command in a pod that is fed through the API server: one WebSocket, and a byte that says which stream."""

from __future__ import annotations

import json
from typing import Any, Final

from convoy.errors import Refused, Unreachable
from convoy.kube.forward import CHUNK, Dial

PROTOCOL: Final = "v4.channel.k8s.io"  # which every Kubernetes speaks; it cannot end standard input
STDIN, STDERR, STATUS = 0, 2, 3
_LAST: Final = 2000  # bytes of what a command complains of that are kept


async def fed(dial: Dial, data: bytes, doing: str) -> None:
    """Give a command its standard input, which must tell its end by itself; returns once the command has ended well.

    Raises `Refused` with what it complained of, and `Unreachable` where the line ends first.
    """
    import httpx
    import httpx_ws

    complaint = b""
    try:
        async with dial() as line:
            for at in range(0, len(data), CHUNK):
                await line.send_bytes(bytes([STDIN]) + data[at : at + CHUNK])
            while True:
                message = await line.receive_bytes()
                if message[:1] == bytes([STDERR]):
                    complaint = (complaint + message[1:])[-_LAST:]
                elif message[:1] == bytes([STATUS]) and len(message) > 1:
                    break
    except httpx_ws.WebSocketUpgradeError as problem:
        raise Refused(f"{doing}: the cluster opens no connection to the pod", why=str(problem)) from problem
    except (httpx_ws.HTTPXWSException, httpx.HTTPError, OSError, ExceptionGroup) as problem:
        first = problem.exceptions[0] if isinstance(problem, ExceptionGroup) else problem
        why = complaint.decode(errors="replace") or str(first) or type(first).__name__
        raise Unreachable(
            f"{doing}: the connection to the pod was lost", why=why, fix="run `convoy kube up` again"
        ) from problem
    said: dict[str, Any] = json.loads(message[1:])
    if said.get("status") != "Success":
        why = complaint.decode(errors="replace").strip() or str(said.get("message", ""))
        raise Refused(f"{doing}: the command in the pod failed", why=why)
