"""Where a node's workers run, as its owner chose: processes of its own, or pods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from convoy.spec.settings import Settings
from convoy.worker.launcher import Launcher, ProcessLauncher


@asynccontextmanager
async def chosen(settings: Settings) -> AsyncIterator[Launcher]:
    """Give the launcher that `launcher` in node.yaml names; what a killed process of this node left is ended first."""
    if settings.pods is None:
        processes = ProcessLauncher(settings.workspace)
        processes.bury()
        yield processes
        return
    from convoy.pods.launcher import opened  # cryptography and a client for the cluster come with the choice

    async with opened(settings) as pods:
        yield pods
