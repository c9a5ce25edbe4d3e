"""`convoy up --keep`: stays beside the nodes, and starts again what dies, until it is told to stop all."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from convoy import errors
from convoy.cli import identity, up
from convoy.cli.output import Screen
from convoy.cli.up import Node
from convoy.errors import ConvoyError
from convoy.spec.kit import read_kit
from convoy.wire.backoff import FAILING, Backoff

LONGEST_S: Final = 30.0  # between two starts of a node that dies each time
SIGNS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def keep(screen: Screen, prod: Path) -> None:
    """Keep every node of a prod_NN running; returns when all are stopped, by us or by somebody else."""
    asyncio.run(_keep(screen, prod))


async def _keep(screen: Screen, prod: Path) -> None:
    file = prod.parent / identity.RUNNING
    keeper = Supervisor(screen, prod, {node.name: node for node in up.nodes_in(file, prod)})
    loop = asyncio.get_running_loop()
    for sign in SIGNS:
        loop.add_signal_handler(sign, keeper.stopping.set)
    screen.line("nodes that die are started again; Ctrl-C stops all of them")
    async with asyncio.TaskGroup() as group:
        for name in keeper.nodes:
            group.create_task(keeper.stay(name))
    if keeper.stopping.is_set():
        up.stop(screen, list(keeper.nodes.values()), [file])


@dataclass(slots=True)
class Supervisor:
    """The nodes as they are now, by name; `stopping` ends it."""

    screen: Screen
    prod: Path
    nodes: dict[str, Node]
    pipes: dict[str, int] = field(default_factory=dict)  # on which nodes that start say that they are ready
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def stay(self, name: str) -> None:
        """Start a node again each time that it dies; one that was stopped in order stays so."""
        backoff = Backoff(LONGEST_S, growth=FAILING)
        while await self._ended(self.nodes[name]):
            if _left(self.nodes[name]):
                self._say(name, "stopped")
                return
            self._say(name, "died")
            await backoff.wait(self.stopping)
            if self.stopping.is_set() or not self._again(name):
                return
            if await self._ready(name):
                backoff.reset()
                self._say(name, "was restarted")

    async def _ended(self, node: Node) -> bool:
        """Wait for a node's process to end; return False if all are to stop."""
        try:
            descriptor = os.pidfd_open(node.pid)
        except ProcessLookupError:
            return not self.stopping.is_set()
        try:
            return await self._readable(descriptor) and not self.stopping.is_set()
        finally:
            os.close(descriptor)

    def _again(self, name: str) -> bool:
        """Start a node once more; return False if `convoy down` has stopped everything meanwhile."""
        dead, file = self.nodes[name], self.prod.parent / identity.RUNNING
        known = {node.name: node for node in up.nodes_in(file, self.prod)}
        if name not in known:
            return False
        if known[name].runs:  # `convoy up` was quicker
            self.nodes[name] = known[name]
            return True
        try:
            started = up.begin(read_kit(Path(dead.kit)), dead.health_port)
        except (ConvoyError, OSError) as problem:  # its owner is at work on the kit: the next attempt may do
            self._say(name, f"cannot be started: {errors.line(problem)}")
            return True
        self.nodes[name], self.pipes[name] = started.node, started.pipe
        up.record(self.prod, up.kits_of(self.prod), list(self.nodes.values()))
        return True

    async def _ready(self, name: str) -> bool:
        """Wait until a node says that it is ready; return False if it died first, or all are to stop."""
        pipe = self.pipes.pop(name, None)
        if pipe is None:
            return self.nodes[name].runs
        try:
            return await self._readable(pipe) and bool(os.read(pipe, 64))
        finally:
            os.close(pipe)

    def _say(self, name: str, what: str) -> None:
        self.screen.data({"node": name, "state": what})
        self.screen.line(f"{name}: {what}")

    async def _readable(self, descriptor: int) -> bool:
        """Wait until a descriptor has something to say; return False if we are to stop first."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, readable.set)
        waits = [asyncio.create_task(event.wait()) for event in (readable, self.stopping)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(descriptor)
            for task in waits:
                task.cancel()
        return readable.is_set()


def _left(node: Node) -> bool:
    """Return whether a node that has ended was stopped in order."""
    try:
        return os.waitpid(node.pid, 0)[1] == 0
    except ChildProcessError:  # an earlier `up` started it: the file with its number says so
        return up.gone(node) == "stopped"
