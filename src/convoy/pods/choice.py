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
async def chosen(settings: Settings, hidden: Sequence[Path]) -> AsyncIterator[Launcher]:
    """Give the launcher that `launcher` in node.yaml names; what a killed process of this node left is ended first.

    `hidden`: folders of which a worker sees what is its own alone.
    """
    if settings.pods is None:
        isolation = probe(settings.workspace)
        processes = ProcessLauncher(settings.workspace, Walls.build(isolation, settings.isolation, hidden))
        for part, why in isolation.missing.items():
            structlog.get_logger().warning(f"jobs are not isolated from {part} here", reason=why)
        processes.bury()
        yield processes
        return
    from convoy.pods.launcher import opened  # cryptography and a client for the cluster come with the choice

    async with opened(settings) as pods:
        yield pods
