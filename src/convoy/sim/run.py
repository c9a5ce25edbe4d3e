"""A whole simulation: a job's folder in, a folder of results out, as a federation would leave it."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

from convoy.control.records import Round
from convoy.control.view import ReadOnlyJob
from convoy.errors import BadInput, JobFailed
from convoy.flows import catalog
from convoy.flows.fleet import NotEnough
from convoy.sim.calls import Measuring
from convoy.sim.devices import devices
from convoy.sim.federation import JOB, Federation, Setting
from convoy.sim.inside import Inside
from convoy.sim.plan import Plan
from convoy.sim.simulated import Simulated
from convoy.sim.states import States
from convoy.sim.summary import Summary
from convoy.sim.visits import Engine
from convoy.sim.workers import WorkerChoice, Workers, choice_of
from convoy.spec.settings import Grants
from convoy.store import arrays, report
from convoy.store.blobs import BlobFolder
from convoy.store.points import FOLDER, PointsFiles
from convoy.worker import code, site_folders, tasks
from convoy.worker.flow import workflow_of
from convoy.worker.namespaces import Namespace, Switch
from convoy.worker.setup import Data, Setup
from convoy.worker.visitor import Work
from convoy.worker.visits import PLACES

Told = Callable[[ReadOnlyJob, Round], None]


def run(
    plan: Plan,
    results: Path,
    *,
    workers: Workers = None,
    told: Told = lambda _, __: None,
) -> Simulated:
    """Run a job to its end and write its results into a folder, which must be new or empty.

    `workers`: processes that do the sites' tasks; 0: this process does; None: one for each core; or another choice.
    `told` hears of each round. Interrupted, it ends every worker and writes what was committed. Raises `BadInput`.
    """
    if results.exists() and (not results.is_dir() or any(results.iterdir())):
        raise BadInput(f"{results} is not an empty folder", fix="name a new folder, or remove this one")
    choice = choice_of(workers)
    choice.count(len(plan.sites))  # before anything is made: it raises where so many do not fit
    with _alone(), _left_alone(), tempfile.TemporaryDirectory(prefix="convoy-simulate-") as place:
        before = tasks.Here.session
        plan = plan.placed(Path(place) / "data", results)
        made = _Simulation(plan, Path(place), results, choice, told)
        try:
            _to_the_end(made.run)
        except KeyboardInterrupt:  # what it left says so
            return made.kept(interrupted=True)
        finally:
            tasks.Here.session = before
        return made.kept()


_ONE: Final = threading.Lock()  # the folder that a process is in, its modules and its output are those of all threads


@contextmanager
def _alone() -> Iterator[None]:
    """Raise `BadInput` where another thread of this process simulates."""
    if not _ONE.acquire(blocking=False):
        raise BadInput("another simulation runs in this process", fix="wait for its end, or use a process for each")
    try:
        yield
    finally:
        _ONE.release()


@contextmanager
def _left_alone() -> Iterator[None]:
    """Keep the garbage collector from what is in memory already: looking through it took a quarter of a visit."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _to_the_end(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run to the end, in a thread where an event loop runs here already, as in a notebook; an interrupt cancels it."""
    if not _loop_runs():
        if asyncio.run(_interrupted(work())):
            raise KeyboardInterrupt
        return
    begun: Future[Callable[[], object]] = Future()

    async def working() -> None:
        task = asyncio.ensure_future(work())
        begun.set_result(partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(asyncio.run, working())
        try:
            ending.result()
        except KeyboardInterrupt:
            begun.result()()
            ending.result()
            raise


async def _interrupted(work: Coroutine[Any, Any, None]) -> bool:
    """Run to the end; return whether an interrupt came in the middle: asyncio would print one that a task raises."""
    try:
        await work
    except KeyboardInterrupt:
        return True
    return False


async def _told(flow: Awaitable[None]) -> None:
    """Run a workflow; its `sys.exit` ends the job, and not this process."""
    try:
        await flow
    except SystemExit as error:
        raise JobFailed(f"the workflow ended with sys.exit({error.code!r})") from error


class _Simulation:
    """One run: the job's code in a folder of its own, the logs in the results."""

    def __init__(self, plan: Plan, place: Path, results: Path, choice: WorkerChoice, told: Told) -> None:
        self.plan, self.place, self.results, self._told = plan, place / "job", results, told
        self.logs, self.blobs = results.absolute() / "logs", BlobFolder(self.place / "blobs")
        self.logs.mkdir(parents=True)
        self.blobs.folder.mkdir(parents=True)  # the models of questions, and what sites keep
        code_folder, job = self.place / "code", plan.job
        for name, data in plan.files.items():
            (code_folder / name).parent.mkdir(parents=True, exist_ok=True)
            (code_folder / name).write_bytes(data)
        self.work = Work(JOB, job.name, code_folder, job.trainer, job.config, job.seed, job.model or "")
        self._log = (self.logs / "server.log").open("a", buffering=1)
        self._engine = self._pool(choice, count) if (count := choice.count(len(plan.sites))) else self._inside()
        setting = Setting(
            name=job.name,
            config=job.config,
            seed=job.seed,
            sites=plan.sites,
            min_sites=catalog.least_sites(job.with_),
            patience_s=job.patience_s,
            spec=job.to_json(),
            devices={} if plan.devices is None else devices(plan.devices, plan.sites, job.seed),
        )
        states = States(self.blobs.folder)
        self._summary = Summary(len(plan.sites), job.seed)
        self._federation = Federation(setting, self._engine, self._say, told=self._committed, states=states)

    def _inside(self) -> Engine:
        return Inside(self.work, self.plan.data.__getitem__, self.logs, self.place / "out" / PLACES)

    def _pool(self, choice: WorkerChoice, count: int) -> Engine:
        from convoy.node.isolation import Walls, probe  # which take a while to load
        from convoy.node.launcher import ProcessLauncher
        from convoy.sim.pool import Pool

        walls = Walls.build(probe(self.place), Grants(), [self.place.parent])
        return Pool(
            self.work,
            self.plan.data.__getitem__,
            self.logs,
            choice.launcher or ProcessLauncher(self.place, walls, choice.forks),
            count=count,
            patience_s=self.plan.job.patience_s,
            reads=self.plan.roots,
            blobs=self.blobs,
            envs=choice.envs,
        )

    async def run(self) -> None:
        """Run the workflow to its end; then every trainer comes to its own, or is stopped where it was interrupted."""
        try:
            with self._engine.interruptible() if isinstance(self._engine, Inside) else nullcontext():
                await self._flow()
                await self._engine.close()
        except BaseException:
            await self._engine.stop()
            raise
        finally:
            self._log.close()

    async def _flow(self) -> None:
        """Run the workflow; what it raises is the job's end, not ours."""
        federation, given = self._federation, self.plan.job.with_
        try:
            flow, first = self._loaded()
            await federation.run(lambda fleet: _told(flow(fleet, **given)), lambda: first)
        except asyncio.CancelledError:
            federation.abort("an interrupt")
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the supervisor of foreign code: the job's news
            self._say(code.logged(error).rstrip("\n"))
            federation.end(code.line(error), "" if isinstance(error, NotEnough) else code.traceback(error))
        else:
            federation.end()

    def _loaded(self) -> tuple[Callable[..., Any], Any]:
        """Return the workflow and the first model, loaded in modules of their own."""
        job, switch = self.plan.job, Switch(self.work.folder)
        told = Setup(JOB, job.name, "server", job.config, Data(), job.seed)
        hear = PointsFiles(self.logs.with_name(FOLDER)).add
        tasks.Here.session = Measuring(told, lambda: self._federation.job.committed + 1, hear)
        switch.to(Namespace())
        try:
            flow = workflow_of(self.work.folder, job.workflow)
            first = code.initial(self.work.folder, job.model or "", job.config)
            switch.gathered()
        finally:
            switch.to(None)
        return flow, first

    def _committed(self, made: Round) -> None:
        self._summary.committed(made.round, made.committed_at, self._federation.schedule)
        self._told(self._federation.job, made)

    def _say(self, text: str) -> None:
        self._log.write(f"{text}\n")

    def kept(self, *, interrupted: bool = False) -> Simulated:
        """Write what the job left; return it."""
        federation = self._federation
        job, ended_at = federation.job, time.time()
        report.write_rounds(federation.rounds, self.results)
        (self.results / report.JOB).write_text(report.job_json(job.record, ended_at=ended_at))
        for name, digest in report.models(job).items():
            arrays.save(self.blobs, name, federation.model(digest))
            shutil.copyfile(self.blobs.path(digest), self.results / name)
        report.write_statistics(federation.model("" if job.last is None else job.last.model), self.results)
        for site, folder in site_folders.artifacts(self.place / "out" / PLACES):
            (self.results / site_folders.ARTIFACTS).mkdir(exist_ok=True)
            shutil.move(folder, self.results / site_folders.ARTIFACTS / site)
        self._summary.ended(federation.schedule)
        self._summary.write(self.results)
        made = tuple(federation.rounds)
        return Simulated(job.record, self.plan.sites, made, self.results, self._summary, interrupted)
