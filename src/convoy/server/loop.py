"""The server's main loop: passes events to the state machine, stores its records, then performs its effects."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from convoy.control import effects, events
from convoy.control.clock import Now
from convoy.control.machine import Machine
from convoy.errors import ConvoyError, StorageFull, Unreachable
from convoy.node.supervisor import Supervisor
from convoy.server.clock import Clock
from convoy.store.ledger import Dropped, Entry, Ledger, Switched, Withdrawn
from convoy.trust import audit
from convoy.trust.enrolment import Invite

LOOK_AGAIN_S = 5.0  # no kernel event says that a full disk has space again: while it is full, check this often


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry of the ledger that is not the state machine's, and what to do once it is durable."""

    entry: Switched | Withdrawn | Invite | audit.Entry
    then: Callable[[], None] | None = None


class Loop:
    """Owns the state machine; no message is sent before the records that it depends on are durable."""

    def __init__(
        self,
        machine: Machine,
        ledger: Ledger,
        *,
        room: Callable[[], str],
        perform: Callable[[effects.Effect], None],
        supervisor: Supervisor,
        observe: Callable[[events.Event, list[effects.Effect], Now], None] = lambda *_: None,
    ) -> None:
        """`room` returns a sentence if the disk is full, else ""; `perform` performs one effect and must not block.

        `supervisor` ends jobs, by an event. `observe` sees each decision, at an instant on the clocks of the machine.
        """
        self.machine = machine
        self._ledger = ledger
        self._room = room
        self._perform = perform
        self._supervisor = supervisor
        self._observe = observe
        self._queue: list[effects.Effect | Kept | asyncio.Future[None]] = []
        self._some = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._unwritten = ""  # why the ledger cannot be written
        self.clock = Clock()
        self._due = math.inf
        self._watchers: set[tuple[str, asyncio.Event]] = set()
        self.changes = 0  # that people may see, since the start
        self._next: asyncio.Event | None = None

    def post(self, event: events.Event) -> None:
        """Decide about an event now; its effects follow in order."""
        instant = now()
        found = self.machine.step(event, self.clock.now())
        self._observe(event, found, instant)
        later = []
        for effect in found:
            if isinstance(effect, effects.AT_ONCE):
                self._do(effect)
            else:
                later.append(effect)
        if isinstance(event, events.Progressed) and not found:
            return  # many a second, and not visible to people
        self._enqueue(later)
        self._arm()
        self.changed(getattr(event, "job", None))

    @property
    def waiting(self) -> int:
        """How many records and effects wait to be written and done."""
        return len(self._queue)

    def resume(self) -> None:
        """Continue the work that an earlier process of this server left."""
        self._enqueue(self.machine.resume())
        self._arm()

    def keep(self, entry: Switched | Withdrawn | Invite | audit.Entry, then: Callable[[], None] | None = None) -> None:
        """Make an entry durable, in one transaction with others of the same moment; then call `then`."""
        self._queue.append(Kept(entry, then))
        self._some.set()

    async def settled(self) -> None:
        """Wait until all decisions so far are durable and performed."""
        done = asyncio.get_running_loop().create_future()
        self._queue.append(done)
        self._some.set()
        await done

    def check_room(self) -> str:
        """Check the disk, tell the state machine of a change, and return the problem; repeat while there is one."""
        problem = self._room() or self._unwritten
        if bool(problem) != bool(self.machine.state.problem):
            self.post(events.StorageChanged(problem))
        if self._look is not None:
            self._look.cancel()
        self._look = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self.check_room) if problem else None
        return problem

    def subscribe(self, job: str, event: asyncio.Event) -> Callable[[], None]:
        """Set `event` whenever something about the job, or about all, changes; call what is returned to stop that."""
        watcher = (job, event)
        self._watchers.add(watcher)
        return lambda: self._watchers.discard(watcher)

    def changed(self, job: object) -> None:
        """Wake the watchers of a job; with None, all watchers; and whoever waits for the next change of anything."""
        self.noticed()
        key = getattr(job, "id", job)
        for watched, event in self._watchers:
            if key in (None, watched):
                event.set()

    def noticed(self) -> None:
        """Count a change that people may see, and wake whoever waits for the next one; the watchers of jobs sleep."""
        self.changes += 1
        if self._next is not None:
            self._next.set()
            self._next = None

    def next_change(self) -> asyncio.Event:
        """Return the event that the next change sets: of jobs, sites, people, problems or the audit trail.

        All who wait share it, so a change costs the same however many they are.
        """
        if self._next is None:
            self._next = asyncio.Event()
        return self._next

    async def has_room(self) -> None:
        """Wait until new work is accepted."""
        event = asyncio.Event()
        leave = self.subscribe("", event)
        try:
            while self.machine.state.problem:
                event.clear()
                await event.wait()
        finally:
            leave()

    async def run(self) -> None:
        """Store records and perform effects, until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._queue = self._queue, []
            records = [record for record in map(_record, batch) if record is not None]
            if any(map(_waits, batch)):
                await self._write(records)
                records = []
            for item in batch:
                match item:
                    case effects.Save(record=record):
                        self.changed(getattr(record, "job", getattr(record, "id", None)))
                    case asyncio.Future():
                        if not item.done():
                            item.set_result(None)
                    case Kept(then=then):
                        if then is not None:
                            then()
                        self.noticed()
                    case effects.Forget(job=job):
                        self._do(item)
                        self.changed(job)
                    case _:
                        self._do(item)
            if records:  # nothing waits for them, but losing a question would lose its answers
                await self._write(records)

    def _do(self, effect: effects.Effect) -> None:
        try:
            self._perform(effect)
        except (ConvoyError, OSError) as problem:  # an error of one job must not affect the others
            said = {"effect": repr(effect)[:500], "problem": str(problem)}
            structlog.get_logger().error("an effect failed", job=_job_of(effect), **said)
        except Exception as problem:  # noqa: BLE001 - the supervisor of effects: one job must not end its server
            self._supervisor.failed(_job_of(effect), problem)

    async def _write(self, records: list[Entry]) -> None:
        while True:
            try:
                with self.clock.writing():
                    await asyncio.to_thread(self._ledger.write, records)
            except (StorageFull, Unreachable) as full:
                if not self._unwritten:  # notes are effects too, and must wait
                    structlog.get_logger().error(full.what, why=full.why)
                self._unwritten = full.what
                self.check_room()
                room = asyncio.Event()
                asyncio.get_running_loop().call_later(LOOK_AGAIN_S, room.set)
                await room.wait()
            except Exception as problem:  # noqa: BLE001 - the supervisor of records: one job must not end its server
                await self._write_apart(records, problem)
                return
            else:
                if self._unwritten:
                    self._unwritten = ""
                    self.check_room()
                return

    async def _write_apart(self, records: list[Entry], problem: Exception) -> None:
        """Write records one by one, because together they cannot be written; one that cannot ends its job."""
        for record in records if len(records) > 1 else []:
            await self._write([record])
        if len(records) == 1:
            self._supervisor.failed(str(getattr(records[0], "job", getattr(records[0], "id", ""))), problem)

    def _enqueue(self, items: Iterable[effects.Effect]) -> None:
        self._queue.extend(items)
        if self._queue:
            self._some.set()

    def _arm(self) -> None:
        due = self.machine.wake()
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._wait()

    def _wait(self) -> None:
        self._timer = None
        if self._due == math.inf:
            self.clock.rest()
        else:
            self._timer = asyncio.get_running_loop().call_later(self.clock.until(self._due), self._beat)

    def _beat(self) -> None:
        if self.clock.now().mono < self._due:
            self._wait()
        else:
            self._due, self._timer = math.inf, None
            self.post(events.TimePassed())


def _waits(item: object) -> bool:
    return isinstance(item, asyncio.Future | Kept | effects.Forget | effects.Retire) or (
        isinstance(item, effects.Save) and item.wait
    )


def _job_of(effect: effects.Effect) -> str:
    """Return the job that an effect is about; "" for none."""
    about = (
        getattr(effect, "record", None) or getattr(effect, "task", None) or getattr(effect, "question", None) or effect
    )
    return str(getattr(about, "job", getattr(about, "id", getattr(effect, "job", ""))))


def _record(item: object) -> Entry | None:
    match item:
        case effects.Save(record=record):
            return record
        case effects.Forget(job=job):
            return Dropped(job)
        case Kept(entry=entry):
            return entry
        case _:
            return None


def now() -> Now:
    """Return this instant on both clocks."""
    return Now(mono=time.monotonic(), wall=time.time())
