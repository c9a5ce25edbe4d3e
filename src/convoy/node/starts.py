"""A launcher that counts: workers started, those that took the place of one that had ended, and those that run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from convoy.node.isolation import Isolation
from convoy.node.launcher import Launcher, Order, Worker
from convoy.wire.health import Metric
from convoy.wire.measures import Counter

REMEMBERED: Final = 1000  # jobs whose first worker is known; of an older job, the next start counts as its first


@dataclass(slots=True)
class Counting:
    """Starts workers as another launcher does, and counts."""

    launcher: Launcher
    started: Counter = field(
        default_factory=lambda: Counter("convoy_workers_started_total", "Workers of jobs that this node has started.")
    )
    restarted: Counter = field(
        default_factory=lambda: Counter(
            "convoy_worker_restarts_total", "Workers started for a job whose earlier worker had ended."
        )
    )
    _known: dict[str, None] = field(default_factory=dict)

    @property
    def isolation(self) -> Isolation:
        """How workers are isolated there."""
        return self.launcher.isolation

    def prepare(self) -> None:
        """See `Launcher`."""
        self.launcher.prepare()

    async def launch(self, order: Order, output: Callable[[bytes], None], waits: Callable[[str], None]) -> Worker:
        """Start a worker; see `Launcher`."""
        worker = await self.launcher.launch(order, output, waits)
        job = order.begin.flow.job or order.begin.trainer.job
        self.started.add()
        if job in self._known:
            self.restarted.add()
        self._known[job] = None
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return worker

    def metrics(self) -> Iterator[Metric]:
        """Yield the counters."""
        yield from self.started.metrics()
        yield from self.restarted.metrics()
