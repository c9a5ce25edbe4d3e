"""Where a node's workers run, as its owner chose: processes of its own, or pods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from convoy.node import environment
from convoy.node.forks import ForkServer
from convoy.node.isolation import Walls, probe
from convoy.node.launcher import Launcher, ProcessLauncher
from convoy.spec.settings import Settings


@asynccontextmanager
async def chosen(settings: Settings, hidden: Sequence[Path], *, loaded: Sequence[str]) -> AsyncIterator[Launcher]:
    """Give the launcher that `launcher` in node.yaml names; processes that a killed node left are ended first.

    `hidden`: folders in which a worker sees only its own files. `loaded`: modules that the node's processes have
    loaded before they start.
    """
    if settings.pods is None:
        isolation = probe(settings.workspace)
        walls = Walls.build(isolation, settings.isolation, hidden)
        home = settings.workspace
        for part, why in isolation.missing.items():
            structlog.get_logger().warning(f"jobs are not isolated from {part} here", reason=why)
        with ForkServer(loaded, environment.of_all(settings.env) | environment.mark(home), _restarted) as forks:
            processes = ProcessLauncher(home, walls, forks)
            processes.bury()
            yield processes
        return
    from convoy.pods.launcher import opened  # cryptography and the cluster's API are loaded only if they are chosen

    async with opened(settings) as pods:
        yield pods


def _restarted() -> None:
    structlog.get_logger().warning(
        "the process that starts workers was not there, or did not answer; it is started again"
    )
