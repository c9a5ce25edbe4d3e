"""A whole simulation: a job's folder in, a folder of results out, as a federation would leave it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convoy.control.records import Job, Round
from convoy.control.view import ReadOnlyJob
from convoy.errors import BadInput
from convoy.flows import catalog
from convoy.flows.fleet import NotEnough
from convoy.node.isolation import Walls, probe
from convoy.node.launcher import ProcessLauncher
from convoy.sim.federation import JOB, Federation, Setting
from convoy.sim.inside import Inside
from convoy.sim.plan import Plan
from convoy.sim.pool import Pool
from convoy.sim.states import States
from convoy.sim.visits import Engine
from convoy.spec.settings import Grants
from convoy.store import arrays, report
from convoy.store.blobs import BlobFolder
from convoy.worker import code, tasks
from convoy.worker.flow import initial_of, workflow_of
from convoy.worker.namespaces import Namespace, Switch
from convoy.worker.tasks import Begin, Data, NodeSession
from convoy.worker.visitor import Work


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation came to: the job as the server's rules left it, its rounds, and where its results are."""

    job: Job
    rounds: tuple[Round, ...]
    folder: Path


def simulate(
    plan: Plan,
    results: Path,
    *,
    workers: int | None = None,
    told: Callable[[ReadOnlyJob, Round], None] = lambda _, __: None,
) -> Simulated:
    """Run a job to its end and write its results into a folder, which must be new or empty.

    `workers`: processes that do the sites' tasks; 0: this process does; None: one for each core. `told` hears of each
    round. Interrupted, it ends every process and writes what was committed. Raises `BadInput`.
    """
    if results.exists() and (not results.is_dir() or any(results.iterdir())):
        raise BadInput(f"{results} is not an empty folder", fix="name a new folder, or remove this one")
    with tempfile.TemporaryDirectory(prefix="convoy-simulate-") as place:
        made = _Simulation(plan, Path(place), results, told)
        with suppress(KeyboardInterrupt):  # what it left says that it was interrupted
            asyncio.run(made.run(_count(workers, plan)))
        return made.kept()


def _count(workers: int | None, plan: Plan) -> int:
    if workers is not None:
        return min(workers, len(plan.sites))
    return min(len(os.sched_getaffinity(0)), len(plan.sites))


class _Simulation:
    """One run: the job's code in a folder of its own, the logs in the results."""

    def __init__(self, plan: Plan, place: Path, results: Path, told: Callable[[ReadOnlyJob, Round], None]) -> None:
        self.plan, self.place, self.results = plan, place, results
        self.logs = results / "logs"
        self.logs.mkdir(parents=True)
        self._told = told
        code_folder = place / "job" / "code"
        for name, data in plan.files.items():
            (code_folder / name).parent.mkdir(parents=True, exist_ok=True)
            (code_folder / name).write_bytes(data)
        self.blobs = BlobFolder(place / "job" / "blobs")  # the models of questions, and what sites keep
        self.blobs.folder.mkdir()
        job = plan.job
        self.work = Work(JOB, job.name, code_folder, job.trainer, job.config, job.seed)
        self._log = (self.logs / "server.log").open("a", buffering=1)
        self.federation: Federation | None = None

    @asynccontextmanager
    async def _engine(self, workers: int) -> AsyncIterator[Engine]:
        """Give what does the visits; at the end every trainer comes to its own, or is stopped."""
        engine: Engine
        if workers == 0:
            engine = Inside(self.work, self.plan.data.__getitem__, self.logs)
        else:
            folder = self.place / "job"
            walls = Walls.build(probe(folder), Grants(), [self.place])
            engine = Pool(
                self.work,
                self.plan.data.__getitem__,
                folder,
                ProcessLauncher(folder, walls),
                count=workers,
                patience_s=self.plan.job.patience_s,
                reads=self.plan.roots,
                blobs=self.blobs,
            )
        try:
            yield engine
        except BaseException:
            await engine.stop()
            raise
        finally:
            self._log.close()
            if isinstance(engine, Pool):
                for log in engine.logs.iterdir():
                    shutil.move(log, self.logs / log.name)

    async def run(self, workers: int) -> None:
        """Run the workflow to its end."""
        async with self._engine(workers) as engine:
            await self._flow(engine)
            await engine.close()

    async def _flow(self, engine: Engine) -> None:
        """Run the workflow; what it raises is the job's end, not ours."""
        job = self.plan.job
        setting = Setting(
            name=job.name,
            config=job.config,
            seed=job.seed,
            sites=self.plan.sites,
            min_sites=catalog.least_sites(job.with_),
            patience_s=job.patience_s,
            spec=job.to_json(),
        )
        federation = self.federation = Federation(
            setting, engine, self._say, told=self._committed, states=States(self.blobs.folder)
        )
        try:
            flow, initial = self._loaded()
            await federation.run(lambda fleet: flow(fleet, **job.with_), initial)
        except asyncio.CancelledError:
            federation.abort("it was interrupted")
            raise
        except Exception as error:  # noqa: BLE001 - the supervisor of foreign code: whatever it raises is the job's news
            traceback = "" if isinstance(error, NotEnough) else code.traceback(error)
            self._say(traceback or code.line(error))
            federation.end(code.line(error), traceback)
        else:
            federation.end()

    def _loaded(self) -> tuple[Callable[..., Any], Callable[[], Any]]:
        """Load the workflow and what gives the first model, in modules of their own."""
        job, switch = self.plan.job, Switch(self.work.folder)
        tasks.Here.session = NodeSession(Begin(JOB, job.name, "server", job.config, Data(), job.seed))
        switch.to(Namespace())
        try:
            flow = workflow_of(self.work.folder, job.workflow)
            first = initial_of(self.work.folder, job.model or "", job.config)
            switch.gathered()
        finally:
            switch.to(None)
        return flow, lambda: first

    def _committed(self, made: Round) -> None:
        assert self.federation is not None  # noqa: S101 - it commits
        self._told(self.federation.job, made)

    def _say(self, text: str) -> None:
        self._log.write(f"{text}\n")

    def kept(self) -> Simulated:
        """Write what the job left; return it."""
        federation = self.federation
        assert federation is not None  # noqa: S101 - it ran
        job, ended_at = federation.job, time.time()
        report.write_rounds(federation.rounds, self.results)
        (self.results / report.JOB).write_text(report.job_json(job.record, ended_at=ended_at))
        folder = BlobFolder(self.place / "models")
        folder.folder.mkdir()
        last, best = job.last, job.best
        named = {} if last is None else {"model": last.model}
        if best is not None and last is not None and best.model != last.model:
            named["best"] = best.model
        for name, digest in named.items():
            arrays.save(folder, name, federation.model(digest))
            shutil.copyfile(folder.path(digest), self.results / f"{name}.safetensors")
        return Simulated(job.record, tuple(federation.rounds), self.results)
