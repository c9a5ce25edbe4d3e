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
    """Give the launcher that `launcher` in node.yaml names; processes that a killed node left are ended first.

    `hidden`: folders in which a worker sees only its own files.
    """
    if settings.pods is None:
        isolation = probe(settings.workspace)
        processes = ProcessLauncher(settings.workspace, Walls.build(isolation, settings.isolation, hidden))
        for part, why in isolation.missing.items():
            structlog.get_logger().warning(f"jobs are not isolated from {part} here", reason=why)
        processes.bury()
        yield processes
        return
    from convoy.pods.launcher import opened  # cryptography and the cluster's API are loaded only if they are chosen

    async with opened(settings) as pods:
        yield pods
