"""The metrics of jobs by round, as this process has read them: it asks the server only for rounds that are new."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from convoy.admin.client import Client

MAX_JOBS: Final = 8  # whose rounds are kept; those that were not asked for longest go first
MAX_ROUNDS: Final = 20_000  # of one job that are read


@dataclass(slots=True)
class History:
    """The committed rounds of a job: their numbers, and the metrics of each."""

    rounds: list[int] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    last: int = 0  # the newest that was read, committed or not

    @property
    def is_cut(self) -> bool:
        """Whether the job may have more rounds than are read."""
        return len(self.rounds) >= MAX_ROUNDS


@dataclass(slots=True)
class Histories:
    """The histories that are kept."""

    kept: OrderedDict[str, History] = field(default_factory=OrderedDict)

    async def of(self, client: Client, job: str) -> History:
        """Return the history of a job as it is now. Round 0, the model that a job starts from, is no part of it."""
        found = self.kept.setdefault(job, History())
        self.kept.move_to_end(job)
        while len(self.kept) > MAX_JOBS:
            self.kept.popitem(last=False)
        async with found.reading, aclosing(client.rounds(job, after=found.last)) as rounds:
            if found.is_cut:
                return found
            async for made in rounds:
                found.last = made.round
                if made.model:
                    found.rounds.append(made.round)
                    found.metrics.append(dict(made.metrics))
                if found.is_cut:
                    break
        return found
