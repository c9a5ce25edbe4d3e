"""An engine of worker processes on this machine: each has its own sites, and does their visits one after the other."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import stat
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final

from convoy import errors
from convoy.control.records import Question
from convoy.errors import ConvoyError
from convoy.model import bare, schema
from convoy.model.arrays import Model, views
from convoy.node import cores
from convoy.node.launcher import Launcher, Order, Worker
from convoy.sim.visits import Visit, Visited
from convoy.store import arrays, points
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.worker.visitor import Work
from convoy.worker.visits import LOGS, PRINTED, given_at

MODELS: Final = 3  # of questions that are kept for workers, beside those of visits that wait
AHEAD: Final = (
    16  # visits that a worker has at the same time: it never waits for the next one, and few are done in vain
)
RESCUED: Final = 16 << 20  # bytes of what a worker printed during the visit at which it died that are kept
GRACE_S: Final = 2.0  # for a worker to end

BYE: Final = pb.WorkerDown(bye=pb.Bye())

Coming = asyncio.Future[Visited | pb.WorkerUp]


@dataclass(slots=True)
class _Process:
    """A worker process and what it is to do, in its order."""

    env: Mapping[str, str] = field(default_factory=dict)
    waiting: deque[tuple[pb.WorkerDown, Coming]] = field(default_factory=deque)
    worker: Worker | None = None
    sent: int = 0  # of those that wait
    since: float = 0.0  # when what it does now was begun, on the event loop's clock
    reading: asyncio.Task[None] | None = None
    watch: asyncio.TimerHandle | None = None  # looks whether what it does now takes too long


def _plain(path: str, flags: int) -> int:
    """Open a file in a folder of workers: they may have put a link or a pipe there. Raises `OSError` for these."""
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "this is not a file", path)
    return file


class Pool:
    """Worker processes; a site's visits are all done by the same one, unless it dies."""

    inside: ClassVar = False

    def __init__(
        self,
        work: Work,
        data: Callable[[str], Mapping[str, str]],
        logs: Path,
        launcher: Launcher,
        *,
        count: int,
        patience_s: float,
        reads: Mapping[str, str],
        blobs: BlobFolder,
        envs: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """`logs`: where the sites' logs are in the end; `reads`: the paths of all sites' data, by any names.

        `envs`: an environment for each worker, where theirs differ.
        """
        self._work, self._data, self._launcher = work, data, launcher
        self._blobs, self._out, self._logs = blobs, blobs.folder.parent / "out", logs
        self._patience_s, self._reads = patience_s, reads
        self._processes = [_Process(dict(env)) for env in (envs or [{}] * count)[:count]]
        self._place: dict[str, tuple[_Process, str]] = {}  # of each site, with its data as JSON
        self._models: deque[str] = deque()
        self._used: Counter[str] = Counter()  # visits that wait, by the digest of their model
        self._closing = False
        self._launched = 0  # processes so far
        self._last: tuple[Question | None, pb.Question] = None, pb.Question()
        (self._out / LOGS).mkdir(parents=True, exist_ok=True)

    def working(self) -> AbstractContextManager[None]:
        """Do nothing: visits are done in other processes."""
        return nullcontext()

    def start(self, visit: Visit) -> Callable[[], Awaitable[Visited]]:
        """Give a visit to the worker of its site."""
        if visit.site not in self._place:
            process = self._processes[len(self._place) % len(self._processes)]
            self._place[visit.site] = process, json.dumps(dict(self._data(visit.site)))
        process, data = self._place[visit.site]
        if visit.model.digest and visit.model.digest not in self._models:
            self._keep(visit.model)
        said = pb.Visit(
            site=visit.site,
            data_json=data,
            question=self._asked(visit.question),
            state=visit.state.digest,
        )
        coming: Coming = asyncio.get_running_loop().create_future()
        down = pb.WorkerDown(visit=said)
        if not process.waiting:
            process.since = asyncio.get_running_loop().time()
        process.waiting.append((down, coming))
        self._used[visit.question.model] += 1
        self._send(process)
        if process.reading is None:
            process.reading = asyncio.ensure_future(self._serve(process))
        return partial(self._done, coming, visit.site, visit.question)

    @staticmethod
    def _send(process: _Process) -> None:
        """Send a process as many visits as it may have."""
        if process.worker is None or process.sent > AHEAD // 2:  # several at once take one call of the kernel
            return
        more = [down for down, _ in islice(process.waiting, process.sent, AHEAD)]
        process.worker.send(*more)
        process.sent += len(more)

    def _asked(self, question: Question) -> pb.Question:
        """Return a question as sites receive it: the last one is that of most visits."""
        if self._last[0] is not question:
            self._last = question, values.to_site(question)
        return self._last[1]

    def _keep(self, model: Model) -> None:
        arrays.save(self._blobs, "question", model)
        self._models.append(model.digest)
        for digest in [one for one in [*self._models][:-MODELS] if not self._used[one]]:
            self._models.remove(digest)
            self._blobs.release("question", digest)

    async def _done(self, coming: Coming, site: str, question: Question) -> Visited:
        """Return what a visit gave; its arrays are read only now, one answer at a time."""
        said = await coming
        if isinstance(said, Visited):
            return said
        if said.WhichOneof("it") == "failed":
            return Visited(error=said.failed.error, traceback=said.failed.traceback)
        try:
            answer = values.answer(said.answer)
            wholes = said.wholes
            place = partial(given_at, self._out, site, question.id)
            given = self._handed(answer.digest, wholes.get("digest", b""), question.model, place)
            schema.check_values(given or {})  # by code that no trainer can have changed
            state = self._handed(answer.state, wholes.get("state", b""), "", place)
        except ConvoyError as problem:
            return Visited(error=errors.line(problem))
        return Visited(given, answer.weight, answer.metrics, answer.value, state)

    def _handed(self, digest: str, whole: bytes, lent: str, place: Callable[[], Path]) -> Model | None:
        """Return the arrays that came whole, or that a digest names: `lent`, or a file in the worker's folder."""
        if whole:
            return bare.unpack(whole)
        if not digest:
            return None
        if digest == lent:
            return arrays.load(self._blobs, digest)
        folder = place()
        found = self._blobs.handed(folder, digest, lambda _, __: None)
        with suppress(OSError):
            folder.rmdir()
        return views(found.layout, found.data)

    # ---- processes -------------------------------------------------------------------------------------------------
    async def _serve(self, process: _Process) -> None:
        """Have a process do what waits, and another one when it has died: the visit that it died at has failed."""
        while process.waiting:
            printed: list[bytes] = []
            self._launched += 1
            name = f"printed-{self._launched}"
            order = self._order(process, name)
            try:
                worker = process.worker = await self._launcher.launch(order, printed.append, lambda _: None)
            except OSError as problem:
                while process.waiting:
                    self._say(process, Visited(error=f"JobFailed: a worker could not be started: {problem}"))
                break
            ending = asyncio.ensure_future(worker.ended())
            process.sent = 0
            self._send(process)
            if self._closing:
                worker.send(BYE)
            why = await self._listen(process, worker)
            process.worker, process.sent = None, 0
            if why:
                await worker.stop(GRACE_S)
            how = await ending
            if self._closing:
                process.waiting.clear()
            if process.waiting:
                self._rescue(self._out / name, process.waiting[0][0].visit.site)
                said = f"JobFailed: the trainer died at this task: {why or how or 'it ended'}"
                self._say(process, Visited(error=said, traceback=b"".join(printed).decode(errors="replace")))
        process.reading = None

    def _rescue(self, printed: Path, site: str) -> None:
        """Put what a process printed during the visit at which it died into the log of the visit's site."""
        with (
            suppress(OSError),  # it has printed nothing, or its code has put another thing there
            open(printed, "rb", opener=_plain) as file,
            open(self._out / LOGS / f"{site}.log", "ab", opener=_plain) as log,
        ):
            size = os.fstat(file.fileno()).st_size
            if size > RESCUED:
                log.write(f"convoy: {size - RESCUED} bytes before this line are left out\n".encode())
                file.seek(-RESCUED, os.SEEK_END)
            log.write(file.read(RESCUED))

    async def _listen(self, process: _Process, worker: Worker) -> str:
        """Take what a process gives until it ends or is idle for good; return why it is to be ended, if it is."""
        try:
            async with asyncio.timeout(None) as limit:
                self._watch(process, limit)
                while (up := await worker.receive()) is not None:
                    self._say(process, up)
        except TimeoutError:
            return f"it gave no answer for {self._patience_s:g} s, the job's patience"
        except ConvoyError as problem:
            return errors.line(problem)
        finally:
            if process.watch is not None:
                process.watch.cancel()
        return ""

    def _watch(self, process: _Process, limit: asyncio.Timeout) -> None:
        """Let a limit pass once a visit has taken longer than the job's patience; look again when that may be."""
        loop = asyncio.get_running_loop()
        works = bool(process.waiting) or self._closing
        due = (process.since if works else loop.time()) + self._patience_s
        if works and loop.time() >= due:
            limit.reschedule(due)
        else:
            process.watch = loop.call_at(due, self._watch, process, limit)

    def _say(self, process: _Process, said: Visited | pb.WorkerUp) -> None:
        down, coming = process.waiting.popleft()
        self._used[down.visit.question.model] -= 1
        process.sent = max(process.sent - 1, 0)
        process.since = asyncio.get_running_loop().time()
        self._send(process)
        if not coming.done():
            coming.set_result(said)

    def _order(self, process: _Process, printed: str) -> Order:
        work = self._work
        begin = pb.BeginTrainer(
            job=work.job,
            name=work.name,
            code=str(work.folder),
            blobs=str(self._blobs.folder),
            out=str(self._out),
            trainer=work.trainer,
            config_json=json.dumps(dict(work.config)),
            data_json=json.dumps(dict(self._reads)),
            seed=work.seed,
            model=work.model,
        )
        return Order(
            "convoy.worker.visits",
            pb.WorkerDown(trainer=begin),
            work.folder,
            {**cores.shared(), **process.env, PRINTED: printed},
        )

    async def stop(self) -> None:
        """End every process now."""
        for process in self._processes:
            process.waiting.clear()
        await asyncio.gather(*(it.worker.stop(0.0) for it in self._processes if it.worker is not None))
        await self.close()

    async def close(self) -> None:
        """Let every site's trainer come to its end, then end the processes; what was not begun is not done any more."""
        self._closing = True
        for process in self._processes:
            while len(process.waiting) > process.sent:
                process.waiting.pop()
            process.since = asyncio.get_running_loop().time()
            if process.worker is not None:
                process.worker.send(BYE)
        reading = [process.reading for process in self._processes if process.reading is not None]
        if reading:
            await asyncio.wait(reading)
        for name, kept in ((LOGS, self._logs), (points.FOLDER, self._logs.with_name(points.FOLDER))):
            for file in (self._out / name).glob("*.*"):
                if file.stem in self._place and file.is_file() and not file.is_symlink():  # workers write there
                    kept.mkdir(exist_ok=True)
                    shutil.move(file, kept / file.name)
