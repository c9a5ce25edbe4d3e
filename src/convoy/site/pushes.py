"""Sends updates to the server: one transfer of each at a time, repeated if a connection breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from convoy import errors
from convoy.errors import NotAllowed, RemoteFault, Unreachable
from convoy.site.line import Line
from convoy.site.outbox import Kept, Outbox
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Pushes:
    """Sends the updates of one job."""

    job: str
    line: Line
    blobs: BlobFolder
    outbox: Outbox
    stop: asyncio.Event  # of the job
    log: Any
    offer: Callable[[Kept], None]
    _wants: dict[str, pb.Want] = field(default_factory=dict)  # the newest of each question that is being pushed

    async def push(self, want: pb.Want) -> None:
        """Send the bytes of an update that the server wants; one transfer of each at a time, for the newest request."""
        question, waits = want.question, want.question in self._wants
        self._wants[question] = want
        if waits:
            return
        try:
            await self._push(question)
        finally:
            del self._wants[question]

    async def _push(self, question: str) -> None:
        backoff, sent = Backoff(), None
        while (kept := self.outbox.answers.get(question)) is not None and self._wants[question] is not sent:
            sent = self._wants[question]
            try:
                head = pb.PushHead(job=self.job, question=question, digest=kept.digest)
                await self.line.push(head, str(self.blobs.path(kept.digest)), sent.ranges)
            except (Unreachable, NotAllowed, RemoteFault, OSError) as problem:
                self.log.warning(
                    "the server did not accept the update", job=self.job, question=question, reason=errors.line(problem)
                )
                await backoff.wait(self.stop)
                if question in self.outbox.answers and self._wants[question] is sent:
                    self.offer(kept)  # the server repeats what it lacks; after a reconnect the answer is offered again
