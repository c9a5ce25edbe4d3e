"""The site's composition root: one outbound connection, an object for each running job, a drain at the end."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

import convoy
from convoy import errors
from convoy.control.records import are_names
from convoy.errors import ConvoyError, RemoteFault, Unreachable
from convoy.node import process
from convoy.node.metrics import NodeMetrics
from convoy.node.process import Ending, Notes, say_ready, set_up, signals
from convoy.node.starts import Counting
from convoy.node.supervisor import Supervisor
from convoy.node.traces import traced
from convoy.node.turns import Turns
from convoy.pods.choice import chosen
from convoy.site import admission, identity, refusals
from convoy.site import quarantine as quarantined
from convoy.site.checkpoints import FILE, Checkpoints
from convoy.site.context import Site
from convoy.site.history import History
from convoy.site.job import MEANWHILE, SiteJob
from convoy.site.line import Line
from convoy.site.meters import Meters
from convoy.site.metrics import SiteMetrics
from convoy.site.quarantine import Quarantine
from convoy.site.release import Release
from convoy.site.task import SiteTask
from convoy.spec.kit import Kit
from convoy.spec.policy import PolicyFile
from convoy.spec.settings import Settings
from convoy.trust import audit, membership
from convoy.wire import convoy_pb2 as pb
from convoy.wire import health
from convoy.wire.backoff import FAILING, Backoff
from convoy.wire.dial import Way
from convoy.wire.pump import Pump

REFUSED_S: Final = 30.0  # the longest wait for a server that refuses us; one that does not answer is tried sooner

MAX_OFFSET: Final = 1 << 40  # bytes of a job's log, or points, that the server reports that it has; a log has some MiB
FOR_JOBS: Final = ("convoy.spec.job",)  # with pydantic: loaded once the site is ready, for no start needs it
# Without numpy: a job's code may set how many threads it has, which numpy reads when it is loaded.
FOR_TRAINERS: Final = ("convoy.worker.trainer",)
LOST: Final = "the connection to the server was lost"


def run(kit: Kit, settings: Settings, *, server_host: str = "", ready_fd: int | None = None) -> int:
    """Run the site in the foreground until it is told to stop; return the exit status."""
    notes = Notes()
    set_up(settings.log_format, notes, node=kit.name, site=kit.name)
    turns = Turns()
    return process.run(_main(kit, settings, server_host or kit.host, turns, ready_fd), turns)


async def _main(kit: Kit, settings: Settings, host: str, turns: Turns, ready_fd: int | None) -> int:
    folder = settings.workspace
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "jobs").mkdir(exist_ok=True)
    signal.signal(refusals.AGAIN, signal.SIG_IGN)  # before our process id can be read; a start checks by itself
    with process.held(folder, kit.pid_file):
        return await _stay(kit, settings, host, turns, ready_fd)


async def _stay(kit: Kit, settings: Settings, host: str, turns: Turns, ready_fd: int | None) -> int:
    folder = settings.workspace
    rules = PolicyFile(kit.local / "policy.yaml")
    rules.now()  # a broken one is told now, not when the first job comes
    admission.approved(kit)
    pump = Pump()
    line = Line(Way(host, kit.fed_port, kit), pump)
    ending = Ending()
    async with (
        chosen(settings, (kit.root, settings.workspace), loaded=FOR_TRAINERS) as starts,
        asyncio.TaskGroup() as group,
    ):
        launcher = Counting(starts)
        node = NodeMetrics(kit, convoy.__version__, folder, settings.disk_reserve, turns, launcher)
        measured = SiteMetrics(line, node)
        supervisor = Supervisor(group, end=lambda job, error, _: agent.fail(job, error))
        quarantine = Quarantine(folder / quarantined.FILE)
        site = Site(
            kit=kit,
            settings=settings,
            folder=folder,
            line=line,
            launcher=launcher,
            log=structlog.get_logger(),
            supervisor=supervisor,
            quarantine=quarantine,
            release=Release(kit, rules),
            history=History(folder, lambda problem: structlog.get_logger().warning("history", problem=problem)),
            meters=Meters.find(),
            phases=node.phases,
        )
        agent = Agent(site=site, group=group, ending=ending, ready_fd=ready_fd, witness=Checkpoints(folder / FILE))
        asyncio.get_running_loop().add_signal_handler(refusals.AGAIN, agent.reconsider)
        vitals = health.Vitals(agent.problem, line.connected.wait, lambda: measured.all(agent.jobs.values()))
        async with health.serving(vitals, host=settings.health_host, port=settings.health_port):
            with traced(node.phases, settings, kit), signals(ending):
                staying = group.create_task(agent.stay_connected())
                await ending.event.wait()
            site.log.info("site leaves", restart=ending.restart)
            await agent.drain()
            staying.cancel()
    pump.close()
    return ending.status


@dataclass(slots=True)
class Agent:
    """Handles the messages of the server."""

    site: Site
    group: asyncio.TaskGroup
    ending: Ending
    ready_fd: int | None
    witness: Checkpoints
    jobs: dict[str, SiteJob] = field(default_factory=dict)
    process: str = field(
        default_factory=lambda: secrets.token_hex(8)
    )  # the name of this process, to recognise a second one
    _runs: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _loading: asyncio.Task[None] | None = None  # of what the first job needs
    _trouble: str = "not registered with the server yet"

    def problem(self) -> str:
        """Return why the site is not ready, or ""; a site is ready when it is registered with the server."""
        return "" if self.site.line.connected.is_set() else self._trouble

    async def stay_connected(self) -> None:
        """Keep the connection; if it breaks, reconnect after a jittered wait that grows with each failed attempt."""
        self._find()
        absent = Backoff()
        refused, failed = (Backoff(REFUSED_S, growth=FAILING) for _ in range(2))
        while not self.site.kit.enrolled and not self.ending.event.is_set():
            await self._enrol(absent)
        while not self.ending.event.is_set():  # a site that stops does not reconnect
            heard, wait = False, absent
            try:
                async with aclosing(self.site.line.session(self._hello())) as downs:
                    async for down in downs:
                        heard = True
                        absent.reset()
                        refused.reset()
                        await self._said(down)
                self._trouble = f"{LOST}: it closed the connection"
            except Unreachable as problem:
                self._trouble = f"{LOST}: {problem.why or problem.what}" if heard else self._absent(problem)
            except ConvoyError as problem:
                self._trouble, wait = errors.line(problem), refused
            except Exception as problem:  # the supervisor of the connection: no message of a server ends its site
                self.site.log.exception("the connection failed because of an error in this site")
                self._trouble, wait = f"an error in this site ended the connection: {type(problem).__name__}", failed
            if wait is not failed:
                failed.reset()
            self.site.log.warning("not connected", reason=self._trouble)
            await wait.wait(self.ending.event)

    async def _enrol(self, absent: Backoff) -> None:
        """Get the first certificate. Raises `NotAllowed` for a join token that is not valid any more."""
        try:
            await identity.enrol(self.site.kit, self.site.line.way.host)
        except Unreachable as problem:
            self._trouble = f"not enrolled yet: {errors.line(problem)}"
            self.site.log.warning("not enrolled", reason=errors.line(problem))
            await absent.wait(self.ending.event)
        else:
            self.site.log.info("enrolled")

    async def _renew(self) -> None:
        self.site.line.send(pb.Up(request=pb.CertificateRequest(pem=await identity.request(self.site.kit))))

    def _certified(self, certificate: bytes) -> None:
        identity.take(self.site.kit, certificate)  # not in a thread: no connection may start with half of a new pair
        self.site.line.retire()
        self.site.log.info("the site's certificate was renewed")

    async def _federation(self, signed: bytes) -> None:
        try:
            await asyncio.to_thread(membership.take, self.site.kit, signed)
        except ConvoyError as problem:
            self.site.log.warning("the server's federation.json is refused", reason=errors.line(problem))

    def _absent(self, problem: Unreachable) -> str:
        """Log why the server is not reached. It refuses a certificate by closing the connection, so check ours."""
        if not isinstance(problem.__cause__, ConnectionRefusedError):
            from convoy.trust import peers  # cryptography is loaded only for this case

            kit = self.site.kit
            try:
                cert, root = kit.certificate, kit.root_file.read_bytes()
                peers.identity_of(cert, root, now=time.time(), name="this site's certificate")
            except ConvoyError as found:
                return errors.line(found)
        return errors.line(problem)

    def _find(self) -> None:
        """Continue the jobs that an earlier process of this site left on the disk."""
        for folder in sorted((self.site.folder / "jobs").iterdir()):
            if (folder / "bundle").exists():
                with self.site.supervisor.over(folder.name):
                    self.jobs[folder.name] = SiteJob(self.site, folder.name, None)
            if folder.name not in self.jobs:
                shutil.rmtree(folder, ignore_errors=True)

    def _hello(self) -> pb.Hello:
        settings = self.site.settings
        return pb.Hello(
            version=convoy.__version__,
            process=self.process,
            cpu=settings.cpu,
            memory=settings.memory,
            gpu=settings.gpu,
            jobs=sorted(self.jobs),
            missing=self.site.launcher.isolation.missing,
        )

    async def _said(self, down: pb.Down) -> None:
        kind = down.WhichOneof("it")
        said: Any = getattr(down, kind) if kind else None
        _check_names(kind, said)
        task = SiteTask.read(down.task) if kind == "task" else None
        offsets = [down.start.log_offset, *(held.log_offset for held in down.welcome.jobs)]
        offsets += [down.start.points, *(held.points for held in down.welcome.jobs)]
        if max(offsets) > MAX_OFFSET:
            why = f"{max(offsets)} bytes or points"
            raise RemoteFault("the server reports an impossible length of a log or of live metrics", why=why)
        match kind:
            case "welcome":
                await self._welcome(down.welcome)
            case "start":
                if down.start.job not in self.jobs:
                    self._begin(down.start)
            case "renew" | "certificate" | "federation" | "checkpoint":
                await self._trusted(kind, down)
            case "leave":
                self.ending.ask(restart=down.leave.restart)
            case "stop" if down.stop.job not in self.jobs:
                self.site.line.send(pb.Up(stopped=pb.JobStopped(job=down.stop.job)))
            case None:
                self.site.log.warning("the server sent a message that this site does not know")
            case _:
                job = self.jobs.get(getattr(down, kind).job)
                if job is not None:
                    with self.site.supervisor.over(job.id):
                        if task is not None:
                            job.give(task)
                        else:
                            self._for_job(job, kind, down)

    async def _trusted(self, kind: str, down: pb.Down) -> None:
        """Handle messages about certificates, participants and checkpoints."""
        match kind:
            case "renew":
                await self._renew()  # one at a time, however often the server asks
            case "certificate":
                self._certified(down.certificate.pem)
            case "federation":
                await self._federation(down.federation.json)
            case "checkpoint":
                self._witness(down.checkpoint)

    def _for_job(self, job: SiteJob, kind: str, down: pb.Down) -> None:
        start = self.site.supervisor.start
        match kind:
            case "stop":
                self.site.log.info("job over", job=job.id, reason=down.stop.reason)
                job.stop(down.stop.finish_s, down.stop.reason)
            case "again":
                job.offers.again(down.again.question)
            case "reject":
                start(job.id, job.rejected(down.reject.question, down.reject.reason))
            case "committed":
                start(job.id, job.committed(down.committed))
            case "cancel":
                start(job.id, job.cancel(down.cancel.question))
            case "receipt":
                return  # the bytes stay until the round is committed

    def _witness(self, said: pb.Checkpoint) -> None:
        kept = audit.Checkpoint(said.seq, said.hash, said.at, said.certificate, said.signature)
        try:
            problem = self.witness.keep(kept)
        except OSError as failed:
            problem = f"it could not be stored: {failed}"
        if problem:
            self.site.log.warning("a checkpoint of the server's audit trail", problem=problem)

    async def _welcome(self, welcome: pb.Welcome) -> None:
        self._trouble = LOST
        alive = {held.job: held for held in welcome.jobs}
        for job in list(self.jobs.values()):
            if job.id not in self._runs and job.id in alive:
                self._run(job)
            elif job.id not in self._runs:
                job.record.ended(MEANWHILE)
                await asyncio.to_thread(shutil.rmtree, job.folder, ignore_errors=True)
                del self.jobs[job.id]
                self.site.line.send(pb.Up(stopped=pb.JobStopped(job=job.id)))
            elif job.id not in alive:
                job.stop(why=MEANWHILE)
        for key, held in alive.items():
            if key in self.jobs:
                with self.site.supervisor.over(key):
                    self.jobs[key].resumed(held)
        self.site.log.info("registered", server=welcome.version, jobs=len(self.jobs))
        if self.ready_fd is not None:
            say_ready(self.ready_fd)
            self.ready_fd = None
        if self._loading is None:
            self._loading = self.group.create_task(process.load(*FOR_JOBS))

    def reconsider(self) -> None:
        """Forget the jobs that this site refused: the server offers them again, and the current policy decides."""
        for job in self.jobs.values():
            if job.refused:
                job.stop(why="this site decides again whether it takes the job")

    def _begin(self, start: pb.Start) -> None:
        try:
            with self.site.supervisor.over(start.job, own=(OSError,)):
                self._run(SiteJob(self.site, start.job, start))
        except OSError as problem:  # no space for one more job: the others continue
            reason = f"the site cannot keep the job: {problem}"
            self.site.line.send(pb.Up(refused=pb.JobRefused(job=start.job, reason=reason)))

    def _run(self, job: SiteJob) -> None:
        self.jobs[job.id] = job
        run = self._runs[job.id] = self.site.supervisor.start(job.id, job.run())
        run.add_done_callback(lambda _: self._gone(job.id))

    def fail(self, job: str, error: str) -> None:
        """End a job whose handling at this site raised an unexpected error."""
        if job in self.jobs:
            self.jobs[job].fail(error)
        else:  # it was about to begin
            self.site.quarantine.add(job)
            reason = f"{self.site.kit.name} failed at this job ({error.partition(':')[0]})"
            self.site.line.send(pb.Up(refused=pb.JobRefused(job=job, reason=reason)))

    def _gone(self, job: str) -> None:
        self.jobs.pop(job, None)
        self._runs.pop(job, None)

    async def drain(self) -> None:
        """End the trainers; their answers are on the disk and are offered when the site is back."""
        if self._loading is not None:
            self._loading.cancel()
        await asyncio.gather(*(job.drain() for job in self.jobs.values()))
        for run in list(self._runs.values()):
            run.cancel()


def _check_names(kind: str | None, said: Any) -> None:
    """Raise `RemoteFault` for an invalid id of a job or a question, because ids become file names."""
    if not hasattr(said, "job"):
        return
    names = [said.question.id if kind == "task" else getattr(said, "question", "0.0")]
    if kind == "committed":
        names += [*said.folded, said.after or "0.0"]
    if not all(are_names(said.job, name) for name in names):
        raise RemoteFault("the server names a job or a task with an invalid id", why=f"{kind} of {said.job[:80]!r}")
