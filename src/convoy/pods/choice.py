"""Where a node's workers run, as its owner chose: processes of its own, or pods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from convoy.node.isolation import Walls, probe
from convoy.node.launcher import Launcher, ProcessLauncher
from convoy.spec.settings import Settings


@asynccontextmanager
async def chosen(settings: Settings, hidden: Sequence[Path], *, loaded: Sequence[str] = ()) -> AsyncIterator[Launcher]:
    """Give the launcher that `launcher` in node.yaml names; processes that a killed node left are ended first.

    `hidden`: folders in which a worker sees only its own files. `loaded`: modules that processes have loaded before
    they are needed, for which the node keeps one more process; without any, each is started anew.
    """
    if settings.pods is None:
        isolation = probe(settings.workspace)
        walls = Walls.build(isolation, settings.isolation, hidden)
        processes = ProcessLauncher(settings.workspace, walls, loaded=loaded, env=settings.env)
        for part, why in isolation.missing.items():
            structlog.get_logger().warning(f"jobs are not isolated from {part} here", reason=why)
        processes.bury()
        try:
            yield processes
        finally:
            processes.close()
        return
    from convoy.pods.launcher import opened  # cryptography and the cluster's API are loaded only if they are chosen

    async with opened(settings) as pods:
        yield pods
