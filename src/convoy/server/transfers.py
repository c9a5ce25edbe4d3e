"""Blobs between server and sites: offers judged before a byte moves, pushes verified, pulls served."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from convoy import errors
from convoy.control import events, holders
from convoy.control.records import Answer, JobId, Question, SiteName
from convoy.control.state import State
from convoy.errors import ConvoyError, NotAllowed, Refused, RemoteFault, StorageFull, Unreachable
from convoy.model import blob, reply, schema
from convoy.node.supervisor import Supervisor
from convoy.server.auditor import Auditor
from convoy.server.files import Workspace
from convoy.server.hub import Hub
from convoy.store import arrays
from convoy.store.receiver import Receiver
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.wire.pump import Moved, Pump
from convoy.wire.stream import Stream

MAX_RANGES: Final = blob.MAX_TENSORS // 2 + 1  # of one pull: every second tensor, for neighbours are joined
LARGE: Final = 64 << 10  # bytes of a header: some 400 tensors, which take 20 ms to parse
MAX_TRIES: Final = 3  # of one update whose bytes arrive damaged: then the site's disk is the cause, not the weather


@dataclass(frozen=True, slots=True)
class Offer:
    """An answer that a site offers, and the blob of its arrays: whole, or by its header."""

    job: str
    answer: Answer
    update: pb.Blob

    @classmethod
    def read(cls, said: pb.Offer) -> Offer:
        """Return what a site's message offers. Raises `RemoteFault`."""
        answer = values.answer(said.answer)
        if answer.digest != said.update.digest:
            raise RemoteFault("the answer names one blob and brings another", why=repr(said.update.digest[:80]))
        return cls(said.job, answer, said.update)

    @property
    def question(self) -> str:
        """The id of the question."""
        return self.answer.question


@dataclass(slots=True)
class Arrival:
    """An update on its way in."""

    site: SiteName
    offer: Offer
    question: Question
    receiver: Receiver
    stream: Stream | None = None  # on which its bytes come
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # nobody uses the receiver any more


@dataclass(slots=True)
class Transfers:
    """Every blob that moves between this server and its sites."""

    state: State
    workspace: Workspace
    hub: Hub
    post: Callable[[events.Event], None]
    check_room: Callable[[], str]
    pump: Pump
    supervisor: Supervisor
    audit: Auditor
    received: int = 0  # bytes since start
    sent: int = 0
    _arrivals: dict[tuple[str, str, str], Arrival] = field(default_factory=dict)  # (job, question, site)
    _queued: dict[tuple[str, str], list[tuple[SiteName, Offer]]] = field(default_factory=lambda: defaultdict(list))
    _stalled: list[tuple[SiteName, Offer]] = field(default_factory=list)  # until the disk has room
    _parsing: asyncio.Lock = field(default_factory=asyncio.Lock)  # of a large header: one at a time
    _damaged: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))  # times, by arrival

    # ---- updates in ------------------------------------------------------------------------------------------
    async def offer(self, site: SiteName, said: pb.Offer) -> None:
        """Judge what a site offers: a receipt, a refusal, or the byte ranges that we want."""
        try:
            offer = Offer.read(said)
        except RemoteFault as problem:
            self._refuse(site, said.job, said.answer.question, problem)
        else:
            await self._offered(site, offer)

    async def _offered(self, site: SiteName, offer: Offer) -> None:
        if site not in self.hub.lines:
            return  # it says so again when it is back
        job = self.state.jobs.get(JobId(offer.job))
        if job is None:
            self.hub.send(site, pb.Down(stop=pb.Stop(job=offer.job, reason="the server does not know this job")))
            return
        question = job.questions.get(offer.question)
        task = None if question is None else question.tasks.get(site)
        if question is None or task is None or task.state != "open":
            self._done(site, offer)  # the machine knows what to answer: receipt, late, or not asked
            return
        try:
            await self._judge(site, offer, question.record)
        except StorageFull:
            self._stalled.append((site, offer))
            self.check_room()
        except (Refused, RemoteFault) as problem:
            self._refuse(site, offer.job, offer.question, problem)
        except Exception as problem:  # noqa: BLE001 - the supervisor of updates: one must not end the server, nor its job
            self._unforeseen(site, offer, problem)

    async def _judge(self, site: SiteName, offer: Offer, question: Question) -> None:
        digest = offer.answer.digest
        if not digest and question.wants_arrays:
            raise Refused(f"the answer was refused: a {question.kind!r} question must be answered with arrays")
        if not digest:
            self._done(site, offer)
            return
        folder = self.workspace.job(offer.job).blobs
        layout = await self._laid_out(offer.update, folder.read_header(question.model), question)
        if not self._asks(site, offer, question):  # that may have changed meanwhile
            await self._offered(site, offer)
            return
        holder = holders.answer(offer.question, site)
        if folder.hold(holder, digest):
            await self._accept(site, offer, question)
            return
        key = (offer.job, offer.question, site)
        before = self._arrivals.get(key)
        await self._drop(key)  # said again on a new line: what we wanted may not have got through
        if before is not None and before.offer.answer.digest != digest:
            await asyncio.to_thread(folder.release, holder, before.offer.answer.digest)
        if any(a.offer.answer.digest == digest and a.offer.job == offer.job for a in self._arrivals.values()):
            self._queued[offer.job, digest].append((site, offer))  # the same bytes are on their way already
            return
        if offer.update.whole:
            folder.put(holder, offer.update.whole, expect=digest)
            self.received += layout.size
            await self._accept(site, offer, question)
            return
        near = () if key in self._damaged else (question.model,)
        receiver = await asyncio.to_thread(folder.receive, holder, layout, near=near)
        if site not in self.hub.lines:
            receiver.close()
            return
        self._arrivals[key] = Arrival(site, offer, question, receiver)
        ranges = [pb.Range(start=start, end=end) for start, end in receiver.ranges]
        self.hub.send(site, pb.Down(want=pb.Want(job=offer.job, question=offer.question, ranges=ranges)))

    async def _laid_out(self, update: pb.Blob, base: blob.Layout, question: Question) -> blob.Layout:
        """Return the layout of an offered update; a large header is parsed beside everything else."""
        if len(update.header) < LARGE:
            return _layout(update, base, question)
        async with self._parsing:
            return await asyncio.to_thread(_layout, update, base, question)

    def _asks(self, site: SiteName, offer: Offer, record: Question) -> bool:
        """Whether what an offer answers is still asked, of a site that is still there."""
        job = self.state.jobs.get(JobId(offer.job))
        question = None if job is None else job.questions.get(offer.question)
        if question is None or question.record is not record or site not in self.hub.lines:
            return False
        task = question.tasks.get(site)
        return task is not None and task.state == "open"

    def wanted(self, site: SiteName, head: pb.PushHead) -> Arrival:
        """Return the update whose bytes a site brings. Raises `NotAllowed` for bytes that nobody wanted."""
        arrival = self._arrivals.get((head.job, head.question, site))
        if arrival is None or arrival.offer.answer.digest != head.digest or arrival.stream is not None:
            raise NotAllowed("nobody asked this site for these bytes")
        return arrival

    async def push(self, arrival: Arrival, stream: Stream) -> bool:
        """Take the bytes that we wanted, and tell the site when all are here; return whether nothing is left over."""
        site, offer = arrival.site, arrival.offer
        key = (offer.job, offer.question, site)
        arrival.stream, again, whole = stream, False, False
        try:
            count = sum(end - start for start, end in arrival.receiver.ranges)
            moved = self._mover(offer.job, site, incoming=True)
            await stream.write(pb.Verdict())
            await self.pump.receive(stream, count, arrival.receiver.feed, moved)
            whole = True
            await asyncio.to_thread(arrival.receiver.finish)
            await self._accept(site, offer, arrival.question)
            self._damaged.pop(key, None)
        except StorageFull:
            self._stalled.append((site, offer))
            self.check_room()
        except RemoteFault as problem:
            self._damaged[key] += 1
            again = self._damaged[key] < MAX_TRIES
            if not again:
                self._damaged.pop(key)
                self._refuse(site, offer.job, offer.question, problem)
        except Refused as problem:
            self._refuse(site, offer.job, offer.question, problem)
        except Unreachable:
            return False  # what came stays; the site offers it again
        except Exception as problem:  # noqa: BLE001 - the supervisor of updates: one must not end the server, nor its job
            self._unforeseen(site, offer, problem)
        finally:
            arrival.receiver.close()
            arrival.ended.set()
            mine = self._arrivals.get(key) is arrival  # or the site has offered it anew
            if mine:
                del self._arrivals[key]
                self.supervisor.start(offer.job, self._next_in_line(offer.job, offer.answer.digest))
        if again and mine:
            await self._offered(site, offer)
        await stream.write(pb.Verdict())
        return whole

    async def _next_in_line(self, job: str, digest: str) -> None:
        for site, offer in self._queued.pop((job, digest), []):
            await self._offered(site, offer)

    async def _accept(self, site: SiteName, offer: Offer, question: Question) -> None:
        digest, folder = offer.answer.digest, self.workspace.job(offer.job).blobs
        try:
            base = arrays.load(folder, question.model) if question.reply is None else None
            judged = (arrays.load(folder, digest), base, question.max_norm)
            if offer.update.whole:
                schema.check_values(*judged)
            else:
                await asyncio.to_thread(schema.check_values, *judged)
            self._done(site, offer)
        except Refused:
            await asyncio.to_thread(folder.release, holders.answer(offer.question, site), digest)
            raise

    def _done(self, site: SiteName, offer: Offer) -> None:
        self.post(events.Answered(JobId(offer.job), site, offer.answer))

    def _refuse(self, site: SiteName, job: str, question: str, problem: ConvoyError) -> None:
        reason = errors.line(problem)
        self.audit.note_some(f"site:{site}", "update", f"task:{job}/{question}", f"refused: {reason}")
        self.post(events.Unusable(JobId(job), question, site, reason))

    def _unforeseen(self, site: SiteName, offer: Offer, problem: Exception) -> None:
        """Leave a site out whose update raised what none should: its job can do without it."""
        structlog.get_logger().error(
            "an update failed by an error of this server",
            job=offer.job,
            question=offer.question,
            site=site,
            exc_info=problem,
        )
        self._refuse(
            site, offer.job, offer.question, RemoteFault("the server failed at this update", why=type(problem).__name__)
        )

    def leave(self, site: SiteName) -> None:
        """A site is gone: what it was sending stays as far as it came, for when it is back."""
        for key in [key for key in self._arrivals if key[2] == site]:
            self.supervisor.start(key[0], self._drop(key))
        self._stalled = [pair for pair in self._stalled if pair[0] != site]

    async def _drop(self, key: tuple[str, str, str]) -> None:
        """Forget an update that was on its way, and let those go on who waited for the same bytes."""
        arrival = self._arrivals.pop(key, None)
        if arrival is None:
            return
        if arrival.stream is None:
            arrival.receiver.close()
        else:
            arrival.stream.cut()
            await arrival.ended.wait()
        self.supervisor.start(key[0], self._next_in_line(key[0], arrival.offer.answer.digest))

    async def room(self) -> None:
        """The disk has room again: take up what was stalled."""
        stalled, self._stalled = self._stalled, []
        for site, offer in stalled:
            await self._offered(site, offer)

    def _mover(self, job: str, site: SiteName, *, incoming: bool) -> Moved:
        """Return what is told of bytes that move: they are counted, and they are progress."""

        def moved(count: int) -> None:
            if incoming:
                self.received += count
            else:
                self.sent += count
            self.post(events.Progressed(JobId(job), site))

        return moved

    # ---- models out ------------------------------------------------------------------------------------------
    async def pull(self, site: SiteName, request: pb.PullRequest, path: Path, stream: Stream) -> bool:
        """Send the ranges of a blob or bundle; return that more may follow."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await stream.write(pb.Verdict())
            ranges = [(part.start, part.end) for part in request.ranges]
            await self.pump.send(stream, descriptor, ranges, self._mover(request.job, site, incoming=False))
            return True
        finally:
            os.close(descriptor)

    def pullable(self, site: SiteName, request: pb.PullRequest) -> Path:
        """Return the file that a site wants bytes of. Raises `NotAllowed` for what it has no task for."""
        _check_ranges(request.ranges)
        job = self.state.jobs.get(JobId(request.job))
        if job is not None and site in job.members:
            files = self.workspace.job(request.job)
            if request.digest == job.record.bundle:
                return files.bundle
            for question in job.questions.values():
                if site in question.tasks and question.record.model == request.digest:
                    return files.blobs.path(request.digest)
        raise NotAllowed("this site has no task with that blob", why=f"job {request.job}, blob {request.digest}")

    def reference(self, job: str, digest: str) -> pb.Blob:
        """Return how a model is named to a site: whole if it is small, else by its header."""
        folder = self.workspace.job(job).blobs
        layout = folder.read_header(digest)
        if layout.size < blob.SMALL:
            self.sent += layout.size
            return pb.Blob(digest=digest, size=layout.size, whole=folder.path(digest).read_bytes())
        return pb.Blob(digest=digest, size=layout.size, header=layout.header)


def _layout(update: pb.Blob, base: blob.Layout, question: Question) -> blob.Layout:
    """Return the layout of an offered update. Raises `RemoteFault`, and `Refused` where it is not what is asked for."""
    header = update.whole or update.header
    layout = blob.parse(header[: blob.header_length(header[:8])], expect=update.digest)
    reply.check_layout(layout, base, question.reply, question.reply_bytes)
    return layout


def _check_ranges(ranges: Collection[pb.Range]) -> None:
    """Refuse ranges that overlap or go back: no site needs a byte twice, and none may make us read for ever."""
    if len(ranges) > MAX_RANGES:
        raise NotAllowed(f"{len(ranges)} byte ranges at once", why=f"{MAX_RANGES} are the limit")
    end = 0
    for part in ranges:
        if part.start < end or part.end < part.start:
            raise NotAllowed("the byte ranges overlap or go back", why=f"{part.start}-{part.end} after {end}")
        end = part.end
