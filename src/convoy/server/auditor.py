"""The server's audit trail: writes records into the ledger, signs checkpoints, stores them and sends them to sites."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from convoy import errors
from convoy.errors import ConvoyError
from convoy.trust import audit, keys
from convoy.wire import convoy_pb2 as pb
from convoy.worker.code import told

EVERY: Final = 100  # the most records under one signature
SIGN_S: Final = 10.0  # after the first record that is not signed yet
SOME: Final = 20  # refusals of one actor within `WINDOW_S` that have a record each; one more record counts the others
OFTEN: Final = 20  # logins, renewals and enrolments of one actor within `WINDOW_S`, which programs do by themselves
MANY: Final = 300  # actions of each other kind by one actor within `WINDOW_S`
WINDOW_S: Final = 600.0  # so that an actor who is refused all day leaves a few hundred records
REFUSED: Final = "refused"
BY_PROGRAMS: Final = frozenset({"login", "logout", "renew", "enrol"})
MAX_TEXT: Final = 300  # characters of each part of a record: people read records, and none is ever removed
PAGE: Final = 1000  # records that are read at once


class Keep(Protocol):
    """Makes an entry durable, in order, then does `then`: the loop's `keep`."""

    def __call__(self, entry: audit.Entry, then: Callable[[], None] | None = None) -> None:
        """Queue the entry."""
        ...


@dataclass(slots=True)
class Auditor:
    """Owns the end of the chain; only this class writes records."""

    project: str
    root_pem: Callable[[], bytes]  # the roots, as they are now
    identity: Callable[[], tuple[bytes, str]]  # the server's key and certificate, as PEM, as they are now
    keep: Keep
    send: Callable[[pb.Down], None]  # to every site that is connected
    read: Callable[[int, int], list[audit.Entry]]  # the ledger's `trail`; blocks
    search: Callable[[audit.Search, int, int], tuple[list[audit.Record], int]]  # the ledger's `searched`; blocks
    last: audit.Record | None
    signed: audit.Checkpoint | None  # the newest that is durable
    wall: Callable[[], float] = time.time
    _unsigned: int = 0
    _timer: asyncio.TimerHandle | None = None
    _some: dict[tuple[str, str], int] = field(default_factory=dict)  # by actor and action, within the window of each

    def note(self, actor: str, action: str, thing: str = "", outcome: str = "done") -> None:
        """Record an action, in one transaction with the records that the caller posts right after.

        If one actor does the same very often, the first times are recorded, and then the number of further times.
        """
        if actor == "server" or self._counts(actor, action):
            self._write(actor, action, thing, outcome)

    def note_some(self, actor: str, action: str, thing: str, outcome: str) -> None:
        """Record a refusal: the first ones of an actor, then only their number, because anybody can cause refusals."""
        if self._counts(actor, REFUSED):
            self._write(actor, action, thing, outcome)

    def _counts(self, actor: str, action: str) -> bool:
        """Count an action within its window; return whether it is one of the first."""
        key = actor, action
        if key not in self._some:
            asyncio.get_running_loop().call_later(WINDOW_S, self._close, key)
        self._some[key] = self._some.get(key, 0) + 1
        return self._some[key] <= _most(action)

    def _close(self, key: tuple[str, str]) -> None:
        """End a window: record how many actions in it have no record of their own."""
        (actor, action), more = key, self._some.pop(key, 0) - _most(key[1])
        if more > 0:
            self._write(actor, "more", outcome=f"{action}: {more} times more within {WINDOW_S:.0f} s")

    def _write(self, actor: str, action: str, thing: str = "", outcome: str = "done") -> None:
        self.last = audit.following(
            self.last,
            project=self.project,
            at=int(self.wall() * 1000),
            actor=told(actor, MAX_TEXT),
            action=action,
            object=told(thing, MAX_TEXT),
            outcome=told(outcome, MAX_TEXT),
        )
        self.keep(self.last)
        self._unsigned += 1
        if self._unsigned >= EVERY:
            self.sign()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SIGN_S, self.sign)

    def sign(self) -> None:
        """Sign the newest record if it is not signed yet, and send the checkpoint to the sites once it is durable."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._unsigned = None, 0
        last = self.last
        if last is None or (self.signed is not None and self.signed.seq >= last.seq):
            return
        try:
            checkpoint = self._checkpoint(last)
        except (ConvoyError, OSError) as problem:  # a certificate that is being replaced: the next record tries again
            reason = errors.line(problem)
            structlog.get_logger().error("the audit trail could not be signed", record=last.seq, reason=reason)
        else:
            self.keep(checkpoint, lambda: self._tell(checkpoint))

    def leave(self, outcome: str) -> None:
        """Record that the server stops, and sign; this is the last checkpoint that the sites receive."""
        for key in list(self._some):
            self._close(key)
        self.note("server", "stop", outcome=outcome)
        self.sign()

    async def trail(self, since: int) -> AsyncIterator[audit.Entry]:
        """Yield the records that are durable, from number `since` on, each followed by its checkpoint if it has one."""
        while page := await asyncio.to_thread(self.read, since, PAGE):
            for entry in page:
                yield entry
            since = page[-1].seq + 1

    def greeting(self) -> pb.Down | None:
        """Return the message with the newest checkpoint, for a site that connects."""
        return None if self.signed is None else _down(self.signed)

    def _checkpoint(self, record: audit.Record) -> audit.Checkpoint:
        """Return the signed checkpoint of a record. Raises `ConvoyError` for one that no verifier would accept."""
        key_pem, certificate = self.identity()
        made = audit.sign(
            record,
            project=self.project,
            key=keys.from_pem(key_pem, name="the server's key"),
            certificate=certificate,
            at=int(self.wall() * 1000),
        )
        audit.check(made, project=self.project, root_pem=self.root_pem())
        return made

    def _tell(self, checkpoint: audit.Checkpoint) -> None:
        self.signed = checkpoint
        self.send(_down(checkpoint))


def _most(action: str) -> int:
    """Return how many records one actor may have of an action within a window."""
    return SOME if action == REFUSED else OFTEN if action in BY_PROGRAMS else MANY


def _down(checkpoint: audit.Checkpoint) -> pb.Down:
    return pb.Down(
        checkpoint=pb.Checkpoint(
            seq=checkpoint.seq,
            hash=checkpoint.hash,
            at=checkpoint.at,
            certificate=checkpoint.certificate,
            signature=checkpoint.signature,
        )
    )
