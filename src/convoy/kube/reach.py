"""The server of a federation in a cluster, reached from outside through a port that we open and close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from convoy.errors import BadInput
from convoy.kube import deployed
from convoy.kube.cluster import connect


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[str]:
    """Give HOST:PORT of the server of the project in a folder of the workspace, for as long as the context lasts."""
    said = deployed.read(folder)
    if said is None:
        raise BadInput(f"{folder} does not remember a cluster", fix="convoy kube up")
    async with connect(said.context) as cluster, cluster.forward(said.namespace, said.pod, said.port) as port:
        yield f"localhost:{port}"
