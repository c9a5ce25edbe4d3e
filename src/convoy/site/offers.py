"""Answers on their way to the server: small ones on the line, others each on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from convoy import errors
from convoy.errors import ConvoyError, NotAllowed, RemoteFault, Unreachable
from convoy.site.line import Line
from convoy.site.outbox import Kept, Outbox, as_up
from convoy.site.release import Release
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.wire.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Offers:
    """One job's way out for what it has answered. One push of each update at a time, with patience."""

    job: str
    line: Line
    blobs: BlobFolder
    outbox: Outbox
    release: Release
    measured: Callable[..., AbstractContextManager[None]]  # counts and traces a push: round, question
    stop: asyncio.Event  # of the job
    log: Any
    start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]  # of the supervisor
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by question

    def offer(self, kept: Kept) -> None:
        """Offer an answer, or say that there is none; what is on its way already begins anew, and goes on there."""
        try:
            up = as_up(self.job, kept, self._described(kept.digest))
        except (ConvoyError, OSError) as problem:  # the disk has lost it
            failed = pb.TaskFailed(job=self.job, question=kept.question, error=self.release.why(problem))
            up = pb.Up(failed=failed)
        if not up.offer.update.header:
            self.line.send(up)
            return
        before = self._running.pop(kept.question, None)
        if before is not None:
            before.cancel()
        task = self._running[kept.question] = self.start(self._push(kept, up.offer))
        task.add_done_callback(lambda done: self._over(kept.question, done))

    def again(self, question: str) -> None:
        """The server could not take an answer when it was offered, and can now."""
        kept = self.outbox.answers.get(question)
        if kept is not None:
            self.offer(kept)

    def all_again(self) -> None:
        """The line is open again: the server may have heard nothing of it."""
        for kept in list(self.outbox.answers.values()):
            self.offer(kept)

    def _described(self, digest: str) -> pb.Blob | None:
        if not digest:
            return None
        return values.blob(*self.blobs.read_small(digest))

    def _over(self, question: str, done: asyncio.Task[None]) -> None:
        if self._running.get(question) is done:
            del self._running[question]

    async def _push(self, kept: Kept, offer: pb.Offer) -> None:
        """Bring an update until the server has answered, or the line is lost."""
        backoff, path = Backoff(), str(self.blobs.path(kept.digest))
        while self.outbox.answers.get(kept.question) is kept and self.line.connected.is_set():
            try:
                with self.measured(kept.round, kept.question):
                    await self.line.push(offer, path)
            except (Unreachable, NotAllowed, RemoteFault, OSError) as problem:
                reason = errors.line(problem)
                self.log.warning("update not taken", job=self.job, question=kept.question, reason=reason)
                if self.stop.is_set():
                    return
                await backoff.wait(self.stop)
            else:
                return
