"""Whether the audit trail is complete and unchanged, as this dashboard found out: it goes on where it was."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from convoy.admin.client import Client
from convoy.errors import ConvoyError, RemoteFault
from convoy.trust import audit, membership

EVERY: Final = 500  # records after which other pages get their turn; checking them takes some 20 ms
MOST: Final = 5_000  # records that one step checks, before a page hears how far it is


@dataclass(slots=True)
class Verification:
    """The check of the whole trail, for all pages; in memory alone, whatever the trail's length.

    `wrong` is what a check found, and ends it until somebody begins again; `fault` is why the newest one could not go
    on. What was verified before is compared with the trail when the check begins again.
    """

    client: Client
    report: audit.Report | None = None  # of all up to the last record that was verified
    checked_at: float = 0.0  # wall seconds
    busy: bool = False
    wrong: ConvoyError | None = None
    fault: ConvoyError | None = None
    _check: audit.Verifier | None = None
    _last: audit.Record | None = None
    _signed: audit.Checkpoint | None = None  # the newest that was verified
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def verified(self) -> int:
        """The number of records that are verified so far."""
        return self._last.seq + 1 if self._last else 0

    @property
    def unsigned(self) -> int:
        """The number of the newest records that no signature of the server covers yet."""
        return self.report.records - 1 - self.report.signed_to if self.report else 0

    async def again(self) -> None:
        """Let the next check begin with the first record; the newest checkpoint must then be in the trail."""
        async with self._lock:
            self._check = self._last = self.report = self.wrong = self.fault = None

    async def advance(self) -> bool:
        """Verify some of the records that are new; return whether more are left. No browser is waited for."""
        async with self._lock:
            if self.wrong is not None:
                return False
            self.busy = True
            try:
                more, self.fault = await self._checked(), None
            except RemoteFault as problem:
                self.wrong, more = problem, False
            except ConvoyError as problem:
                self.fault, more = problem, False
            self.busy = more
            return more

    async def _checked(self) -> bool:
        """Check at most `MOST` records; return whether there are more."""
        count, check = 0, self._check or await self._begun()
        known = self._last
        async with aclosing(self.client.audit(known.seq if known else 0)) as entries:
            async for entry in entries:
                if known is not None and entry.seq == known.seq and isinstance(entry, audit.Record):
                    _same(entry, known)
                    known = None
                elif known is None and not self._has(entry):
                    self._take(check, entry)
                    count += isinstance(entry, audit.Record)
                    if not count % EVERY:
                        await asyncio.sleep(0)  # other pages
                    if count >= MOST:
                        return True
        if known is not None:
            raise RemoteFault(
                f"record {known.seq} is missing, which was there when it was verified",
                why="the trail is shorter than it was",
                fix="keep what `convoy audit save` writes now, and contact the operator of the server",
            )
        self.report, self.checked_at = check.end(), time.time()
        return False

    async def _begun(self) -> audit.Verifier:
        """Return a check that begins with the first record."""
        roots = await asyncio.to_thread(membership.ever, self.client.kit)
        check = self._check = audit.Verifier(self.client.project, roots)
        if self._signed is not None:
            check.witness([self._signed])
        return check

    def _has(self, entry: audit.Entry) -> bool:
        """Return whether an entry is the newest checkpoint, which comes with the last record once more."""
        return self._last is not None and entry == self._signed and entry.seq == self._last.seq

    def _take(self, check: audit.Verifier, entry: audit.Entry) -> None:
        check.take(entry)
        if isinstance(entry, audit.Record):
            self._last = entry
        else:
            self._signed = entry


def _same(entry: audit.Record, known: audit.Record) -> None:
    if entry != known:
        raise RemoteFault(
            f"record {known.seq} was changed since it was verified",
            why="it has other words or another hash than before",
            fix="keep what `convoy audit save` writes now, and contact the operator of the server",
        )
