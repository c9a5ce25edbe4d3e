"""Blobs between server and sites: offers judged before a byte moves, pushes verified, pulls served."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from convoy import errors
from convoy.control import events, holders
from convoy.control.records import Answer, JobId, Question, SiteName, are_names
from convoy.control.view import ReadOnlyState
from convoy.errors import ConvoyError, NotAllowed, NotFound, Refused, RemoteFault, StorageFull, Unreachable
from convoy.model import blob
from convoy.node.phases import Phases
from convoy.server import judging
from convoy.server.auditor import Auditor
from convoy.server.files import Workspace
from convoy.server.hub import Hub
from convoy.store.receiver import Receiver
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.wire.pump import Moved, Pump
from convoy.wire.stream import Stream

LARGE: Final = 64 << 10  # bytes of a header: some 400 tensors, which take 20 ms to parse
REST: Final = 4  # times as long as the header of an offer took
MAX_TRIES: Final = 3  # of one update whose bytes arrive damaged: then the site's disk is the cause, not the network
ROOM: Final = "room"  # what offers wait for while the disk is full

Key = tuple[str, str, SiteName]  # job, question, site


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


@dataclass(frozen=True, slots=True)
class Arrival:
    """An update on its way in, on a connection of its own."""

    site: SiteName
    offer: Offer
    question: Question
    receiver: Receiver
    stream: Stream
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # nobody uses the receiver any more

    @property
    def key(self) -> Key:
        """Its place among all that come."""
        return (self.offer.job, self.offer.question, self.site)

    @property
    def blob(self) -> str:
        """What offers of the same bytes wait for."""
        return f"{self.offer.job}/{self.offer.answer.digest}"

    @property
    def want(self) -> pb.Want:
        """The byte ranges that are missing here."""
        return pb.Want(ranges=[pb.Range(start=start, end=end) for start, end in self.receiver.ranges])


@dataclass(slots=True)
class Transfers:
    """Every blob that moves between this server and its sites."""

    state: ReadOnlyState
    workspace: Workspace
    hub: Hub
    post: Callable[[events.Event], None]
    check_room: Callable[[], str]
    pump: Pump
    audit: Auditor
    phases: Phases
    received: int = 0  # bytes since start
    sent: int = 0
    refused: int = 0  # updates
    moved: dict[str, dict[SiteName, list[int]]] = field(default_factory=dict)  # bytes down, up since its last answer
    _arrivals: dict[Key, Arrival] = field(default_factory=dict)
    _later: dict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))  # offers to be made anew
    _parsing: asyncio.Lock = field(default_factory=asyncio.Lock)  # of a large header: one at a time
    _rests: dict[SiteName, float] = field(default_factory=dict)  # until when a site's next offer waits
    _damaged: dict[Key, int] = field(default_factory=lambda: defaultdict(int))  # times, by arrival

    # ---- updates in ------------------------------------------------------------------------------------------
    async def offer(self, site: SiteName, said: pb.Offer) -> None:
        """Judge an answer that a site offers on its line: it has no arrays, or brings them whole."""
        if said.update.header:
            raise RemoteFault(f"{site} offers on its line an update that needs a connection of its own")
        await self._judged(site, said, None)

    async def begin(self, site: SiteName, said: pb.Offer, stream: Stream) -> Arrival | None:
        """Judge an update that a site offers on a connection of its own; return what `receive` is to take of it.

        None: the server has it, will never take it, or says `again` when it can; the machine's answer is on the line.
        A site makes one such offer at a time, and rests after it. Raises `RemoteFault` for names that cannot be.
        """
        await asyncio.sleep(self._rests.pop(site, 0.0) - asyncio.get_running_loop().time())
        if not are_names(said.job, said.answer.question):
            raise RemoteFault(f"{site} speaks of a job or a task that cannot be", why=f"an offer of {said.job[:80]!r}")
        return await self._judged(site, said, stream)

    async def _judged(self, site: SiteName, said: pb.Offer, stream: Stream | None) -> Arrival | None:
        try:
            offer = Offer.read(said)
        except RemoteFault as problem:
            self._refuse(site, said.job, said.answer.question, problem)
            return None
        question = self._asked(site, offer)
        if question is None:
            return None
        try:
            return await self._judge(site, offer, question, stream)
        except RemoteFault as problem:
            self._refuse(site, offer.job, offer.question, problem)
        except Exception as problem:  # noqa: BLE001 - the supervisor of updates: one must not end the server, nor its job
            self._not_taken(site, offer, problem)
        return None

    def _asked(self, site: SiteName, offer: Offer) -> Question | None:
        """Return what an offer answers, if that is still asked; otherwise let the site know what to do with it."""
        if site not in self.hub.lines:
            return None  # it says so again when it is back
        job = self.state.jobs.get(JobId(offer.job))
        if job is None:
            self.hub.send(site, pb.Down(stop=pb.Stop(job=offer.job, reason="the server does not know this job")))
            return None
        question = job.questions.get(offer.question)
        task = None if question is None else question.tasks.get(site)
        if question is None or task is None or task.state != "open":
            self._done(site, offer)  # the machine knows what to answer: receipt, late, or not asked
            return None
        return question.record

    async def _judge(self, site: SiteName, offer: Offer, question: Question, stream: Stream | None) -> Arrival | None:
        digest = offer.answer.digest
        if not digest and question.wants_arrays:
            raise Refused(f"the answer was refused: a {question.kind!r} question must be answered with arrays")
        if not digest:
            self._done(site, offer)
            return None
        try:
            base = self.workspace.job(offer.job).blobs.read_header(question.model)
        except NotFound:  # the disk has lost it, and the workflow makes it anew
            self._later[_base(question)].add((offer.job, offer.question, site))
            return None
        layout = await self._laid_out(site, offer, base, question)
        if (asked := self._asked(site, offer)) is not question:  # that may have changed meanwhile
            return None if asked is None else await self._judge(site, offer, asked, stream)
        return await self._wanted(site, offer, question, stream, layout)

    async def _wanted(
        self, site: SiteName, offer: Offer, question: Question, stream: Stream | None, layout: blob.Layout
    ) -> Arrival | None:
        """Take what is small or here already; return what is to come, unless somebody brings the same bytes now."""
        digest, folder = offer.answer.digest, self.workspace.job(offer.job).blobs
        holder, key = holders.answer(offer.question, site), (offer.job, offer.question, site)
        before = self._arrivals.get(key)
        if before is not None:  # said again on a new connection: of the old one's bytes some may have got through
            before.stream.cut()
            await before.ended.wait()
            if before.offer.answer.digest != digest:
                await asyncio.to_thread(folder.release, holder, before.offer.answer.digest)
        if folder.hold(holder, digest):
            await self._accept(site, offer, question)
            return None
        same = f"{offer.job}/{digest}"
        if any(arrival.blob == same for arrival in self._arrivals.values()):
            self._later[same].add(key)  # the same bytes are on their way already
            return None
        if offer.update.whole:
            folder.put(holder, offer.update.whole, expect=digest)
            self._count(offer.job, site, up=layout.size)
            await self._accept(site, offer, question)
            return None
        if stream is None:
            raise RemoteFault("the answer names a blob and brings none")
        near = () if key in self._damaged else (question.model,)
        receiver = await asyncio.to_thread(folder.receive, holder, layout, near=near)
        if site not in self.hub.lines:
            receiver.close()
            return None
        self._arrivals[key] = arrival = Arrival(site, offer, question, receiver, stream)
        return arrival

    async def _laid_out(self, site: SiteName, offer: Offer, base: blob.Layout, question: Question) -> blob.Layout:
        """Return the layout of an offered update; a large header is parsed beside everything else.

        After it the site rests, so that its headers take a fifth of the server's time at most.
        """
        parsed = partial(judging.layout, offer.update, base, question, offer.answer)
        if not offer.update.header:
            return parsed()
        large, clock = len(offer.update.header) >= LARGE, asyncio.get_running_loop().time
        async with self._parsing if large else nullcontext():
            began = clock()
            try:
                return await asyncio.to_thread(parsed) if large else parsed()
            finally:
                self._rests[site] = clock() + REST * (clock() - began)

    async def receive(self, arrival: Arrival) -> bool:
        """Take the bytes of an update, and tell the site when all are here; return whether nothing is left over."""
        offer, stream, whole, want = arrival.offer, arrival.stream, False, arrival.want
        count = sum(part.end - part.start for part in want.ranges)
        try:
            await stream.write(pb.Verdict(), want)
            moved = self._mover(offer.job, arrival.site, incoming=True)
            await self.pump.receive(stream, count, arrival.receiver.feed, moved)
            whole = True
            await asyncio.to_thread(arrival.receiver.finish)
            await self._accept(arrival.site, offer, arrival.question)
            self._damaged.pop(arrival.key, None)
        except Unreachable:
            return False  # what came stays; the site offers it again
        except Exception as problem:  # noqa: BLE001 - the supervisor of updates: one must not end the server, nor its job
            self._not_taken(arrival.site, offer, problem)
        finally:
            arrival.receiver.close()
            arrival.ended.set()
            del self._arrivals[arrival.key]
            self._offer_again(arrival.blob)
        if count:  # a site that was asked for no bytes waits for no second verdict
            await stream.write(pb.Verdict())
        return whole

    def _not_taken(self, site: SiteName, offer: Offer, problem: Exception) -> None:
        """Have an update offered again that cannot be taken now; refuse one that is wrong, or damaged each time."""
        key = (offer.job, offer.question, site)
        match problem:
            case StorageFull() if self.check_room():
                self._later[ROOM].add(key)
            case StorageFull() | RemoteFault():
                self._damaged[key] += 1
                if self._damaged[key] < MAX_TRIES:
                    self.hub.send(site, pb.Down(again=pb.Again(job=offer.job, question=offer.question)))
                else:
                    del self._damaged[key]
                    self._refuse(site, offer.job, offer.question, problem)
            case Refused():
                self._refuse(site, offer.job, offer.question, problem)
            case _:
                self._unforeseen(site, offer, problem)

    def _offer_again(self, what: str) -> None:
        """What some offers had to wait for is over: their sites are to make them anew."""
        for job, question, site in self._later.pop(what, ()):
            self.hub.send(site, pb.Down(again=pb.Again(job=job, question=question)))

    def found(self, question: Question) -> None:
        """The model of a question is here: take what was offered while it was not."""
        self._offer_again(_base(question))

    def room(self) -> None:
        """The disk has room again."""
        self._offer_again(ROOM)

    def leave(self, site: SiteName) -> None:
        """A site is gone: what it was sending stays as far as it came, for when it is back."""
        for arrival in self._arrivals.values():
            if arrival.site == site:
                arrival.stream.cut()
        for waiting in self._later.values():
            waiting.difference_update({key for key in waiting if key[2] == site})

    async def _accept(self, site: SiteName, offer: Offer, question: Question) -> None:
        digest, folder = offer.answer.digest, self.workspace.job(offer.job).blobs
        try:
            with self.phases.measured("check", offer.job, question.round, question.id, site):
                checked = partial(judging.check_values, folder, question, offer.answer)
                if offer.update.whole:
                    checked()
                else:
                    await asyncio.to_thread(checked)
            self._done(site, offer)
        except Refused:
            await asyncio.to_thread(folder.release, holders.answer(offer.question, site), digest)
            raise

    def _done(self, site: SiteName, offer: Offer) -> None:
        down, up = self.moved.get(offer.job, {}).pop(site, (0, 0))
        answer = offer.answer._replace(cost=offer.answer.cost._replace(down=down, up=up))
        self.post(events.Answered(JobId(offer.job), site, answer))

    def _refuse(self, site: SiteName, job: str, question: str, problem: ConvoyError) -> None:
        reason = errors.line(problem)
        self.refused += 1
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

    def _mover(self, job: str, site: SiteName, *, incoming: bool) -> Moved:
        """Return what is told of bytes that move: they are counted, and they are progress."""

        def moved(count: int) -> None:
            self._count(job, site, **{"up" if incoming else "down": count})
            self.post(events.Progressed(JobId(job), site))

        return moved

    def _count(self, job: str, site: SiteName, *, down: int = 0, up: int = 0) -> None:
        """Count bytes that have moved, for the metrics of the server and for the cost of the site's next answer."""
        self.received += up
        self.sent += down
        if JobId(job) in self.state.jobs:
            mine = self.moved.setdefault(job, {}).setdefault(site, [0, 0])
            mine[0] += down
            mine[1] += up

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
        judging.check_ranges(request.ranges)
        job = self.state.jobs.get(JobId(request.job))
        if job is not None and site in job.members:
            files = self.workspace.job(request.job)
            if request.digest == job.record.bundle:
                return files.bundle
            for question in job.questions.values():
                if site in question.tasks and question.record.model == request.digest:
                    return files.blobs.path(request.digest)
        raise NotAllowed("this site has no task with that blob", why=f"job {request.job}, blob {request.digest}")

    def reference(self, job: str, digest: str, site: SiteName) -> pb.Blob:
        """Return how a model is named to a site: whole if it is small, else by its header."""
        found = values.blob(*self.workspace.job(job).blobs.read_small(digest))
        self._count(job, site, down=len(found.whole))
        return found


def _base(question: Question) -> str:
    """Return what offers wait for while the model of their question is not here."""
    return f"{question.job}/{question.model}"
