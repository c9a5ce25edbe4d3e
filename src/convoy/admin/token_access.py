"""A client for a process that the server itself has started: it has a bearer token and no key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convoy.admin import link
from convoy.admin.client import Client
from convoy.spec.kit import Kit

PATIENCE_S: Final = 10.0  # with a server on the same machine; whoever has lost it ends, and is started again
CERTIFIED: Final = "localhost"  # is in every server's certificate
_ANYWHERE: Final = {"": "127.0.0.1", "::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}  # noqa: S104 - replaced by loopback


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """What such a process gets: where the server is, the root that certifies it, and the token."""

    project: str
    host: str  # on which the server listens
    port: int
    root_pem: str
    token: str

    @classmethod
    def read(cls, said: Mapping[str, object]) -> TokenAccess:
        """Return what a server has written; it is not from outside."""
        return cls(*(said[name] for name in cls.__slots__))  # type: ignore[arg-type]


@asynccontextmanager
async def connect(access: TokenAccess) -> AsyncIterator[Client]:
    """Give a client that may do what the token allows."""
    wire = link.Link(_ANYWHERE.get(access.host, access.host), access.port, access.root_pem.encode(), CERTIFIED)
    nowhere = Path("/nonexistent")
    kit = Kit(nowhere, access.project, "admin", "", "", wire.host, 0, access.port, nowhere)
    try:
        yield Client(
            name="",
            project=access.project,
            kit=kit,
            key_pem=b"",
            cert_pem=b"",
            root_pem=access.root_pem.encode(),
            link=wire,
            patience_s=PATIENCE_S,
            _bearer=access.token,
        )
    finally:
        await wire.close()
