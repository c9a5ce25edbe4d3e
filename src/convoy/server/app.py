"""The server's composition root: builds every part, hands it on, and drains at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

import convoy
from convoy.admin import serve as rest
from convoy.control import events
from convoy.control.machine import Machine
from convoy.control.records import JobId
from convoy.control.state import State
from convoy.pods.choice import chosen
from convoy.server import start
from convoy.server.artifacts import Artifacts
from convoy.server.auditor import Auditor
from convoy.server.coordinator import ServerCoordinator, resident_bytes
from convoy.server.files import Workspace
from convoy.server.flows import Flows
from convoy.server.hub import Hub
from convoy.server.identity import Identity
from convoy.server.intake import Intake
from convoy.server.logs import JobLogs
from convoy.server.loop import Loop
from convoy.server.performer import Performer
from convoy.server.registry import Registry
from convoy.server.results import open_results
from convoy.server.sessions import Sessions
from convoy.server.transfers import Transfers
from convoy.spec.kit import Kit
from convoy.spec.settings import Settings
from convoy.store.ledger import Contents, Ledger, open_ledger, sqlite_url
from convoy.trust import enrolment
from convoy.trust.federation import Federation
from convoy.trust.issuing import Issuing
from convoy.wire import health
from convoy.wire.door import Door, bound
from convoy.wire.pump import Pump
from convoy.worker import node
from convoy.worker.launcher import Launcher
from convoy.worker.node import Ending, Notes, say_ready, set_up, signals
from convoy.worker.supervisor import Supervisor

DRAIN_S: Final = 10.0  # for the last records to become durable
FED_PORT: Final = "fed_learn_port in project.yml, and provision anew"
LAST_WORDS_S: Final = 0.5  # for sites to hear that we leave


def run(kit: Kit, settings: Settings, *, ready_fd: int | None = None) -> int:
    """Run the server in the foreground until it is told to leave; return the exit status."""
    notes = Notes()
    set_up(settings.log_format, notes)
    return node.run(_main(kit, settings, notes, ready_fd))


@dataclass(slots=True)
class Logbook:
    """The logs of each job, opened once."""

    workspace: Workspace
    open: dict[str, JobLogs]

    def of(self, job: str) -> JobLogs:
        """Return the job's logs."""
        if job not in self.open:
            self.open[job] = JobLogs(self.workspace.job(job).logs)
        return self.open[job]

    def forget(self, job: str) -> None:
        """Let a deleted job's logs go."""
        self.open.pop(job, None)


@dataclass(frozen=True, slots=True)
class Parts:
    """A server, built and not yet open."""

    kit: Kit
    settings: Settings
    state: State
    loop: Loop
    flows: Flows
    transfers: Transfers
    hub: Hub
    coordinator: ServerCoordinator
    sites: Sessions
    pump: Pump
    ending: Ending
    registry: Registry
    own: Identity
    audit: Auditor


async def _main(kit: Kit, settings: Settings, notes: Notes, ready_fd: int | None) -> int:
    folder = settings.workspace
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "jobs").mkdir(exist_ok=True)
    log, ending = structlog.get_logger(), Ending()
    async with AsyncExitStack() as stack:
        stack.enter_context(node.held(folder, kit.pid_file))
        launcher = await stack.enter_async_context(chosen(settings, (kit.root, settings.workspace)))
        issuing = _signing(kit)  # starts beside all that follows
        stack.callback(issuing.end)
        ledger = await asyncio.to_thread(open_ledger, settings.database or sqlite_url(folder / "convoy.sqlite"))
        stack.callback(ledger.close)
        found = start.Found()
        contents = await asyncio.to_thread(_load, kit, ledger, Workspace(folder), found)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        parts = _build(
            Registry.of(kit, settings, ledger, issuing),
            notes=notes,
            ending=ending,
            contents=contents,
            found=found,
            launcher=launcher,
            group=group,
        )
        deciding = group.create_task(parts.loop.run())
        await asyncio.to_thread(start.tidy, parts.state, Workspace(folder), found)
        for lost in await asyncio.to_thread(start.lost_updates, parts.state, Workspace(folder), found):
            parts.loop.post(lost)
        for job, problem in found.broken.items():
            parts.loop.supervisor.failed(job, problem)
        parts.audit.note("server", "start", outcome=f"Convoy {convoy.__version__}")
        parts.loop.resume()
        stack.callback(parts.pump.close)
        door = await _open(parts, stack)
        log.info("server ready", project=kit.project, sites=len(parts.state.sites), fed_port=kit.fed_port)
        with signals(ending):
            say_ready(ready_fd)
            await ending.event.wait()
        log.info("server leaves", restart=ending.restart)
        parts.audit.leave("restarts" if ending.restart else "done")
        with suppress(TimeoutError):  # so that the sites hear the last checkpoint
            async with asyncio.timeout(LAST_WORDS_S):
                await parts.loop.settled()
        parts.hub.close_all()
        await door.shut(LAST_WORDS_S)
        parts.flows.stop_all()
        with suppress(TimeoutError):  # a disk that is full: nothing was said that is not durable
            async with asyncio.timeout(DRAIN_S):
                await parts.loop.settled()
        deciding.cancel()
    return ending.status


def _load(kit: Kit, ledger: Ledger, workspace: Workspace, found: start.Found) -> Contents:
    """Return what the ledger holds, less the rounds whose model a power cut took; the kit's invitations go into it."""
    ledger.write(enrolment.invites_from_json(kit.invites_file.read_bytes()) if kit.invites_file.exists() else [])
    contents = ledger.load()
    undone = start.undone(contents, workspace, found)
    if not undone:
        return contents
    for lost in undone:
        structlog.get_logger().warning("a round is made again: its model is lost", job=lost.job, round=lost.round)
    ledger.write(undone)
    return ledger.load()


def _signing(kit: Kit) -> Issuing:
    """Start the process that has the issuing key."""

    def tell(lost: str) -> None:
        structlog.get_logger().warning("the process that has the issuing key is lost, and starts anew", reason=lost)

    return Issuing(kit, tell)


def _build(
    registry: Registry,
    *,
    notes: Notes,
    ending: Ending,
    contents: Contents,
    found: start.Found,
    launcher: Launcher,
    group: asyncio.TaskGroup,
) -> Parts:
    """Build every part and hand each what it needs."""
    kit, settings, ledger = registry.kit, registry.settings, registry.ledger
    workspace, hub, state = Workspace(settings.workspace), Hub(), _state(registry, contents, found)
    results, book = open_results(settings.results, settings.workspace / "results"), Logbook(workspace, {})
    loop = Loop(Machine(state, start.needs_of), ledger, room=lambda: workspace.room(settings.disk_reserve))
    loop.supervisor = supervisor = Supervisor(group, lambda job, *why: loop.post(events.Broken(JobId(job), *why)))
    free = partial(workspace.free, settings.disk_reserve)
    flows = Flows(state, workspace, launcher, supervisor, loop.post, book.of, settings.env, loop.check_room, free)
    pump, audit = Pump(), _auditor(kit, loop, hub, ledger, contents)
    transfers = Transfers(state, workspace, hub, loop.post, loop.check_room, pump, supervisor, audit)
    artifacts = Artifacts(state, workspace, pump, settings.artifacts, free)
    loop.perform = Performer(
        state=state,
        workspace=workspace,
        hub=hub,
        transfers=transfers,
        artifacts=artifacts,
        flows=flows,
        results=results,
        supervisor=supervisor,
        post=loop.post,
        check_room=loop.check_room,
        logs_of=book.of,
        forget_logs=book.forget,
        note=structlog.get_logger(),
        audit=audit,
    )
    sites = Sessions(
        kit.project, convoy.__version__, state, hub, transfers, loop.post, book.of, registry, audit, artifacts
    )
    coordinator = ServerCoordinator(
        loop=loop,
        audit=audit,
        workspace=workspace,
        intake=Intake(state, workspace, registry.roll, settings.custom_workflows),
        hub=hub,
        results=results,
        roll=registry.roll,
        expel=sites.expel,
        version=convoy.__version__,
        logs_of=book.of,
        notes=notes,
        ending=ending,
        log=structlog.get_logger(),
    )
    own = Identity(kit, registry.issuing, settings.site_certificate_life)
    _spread(registry, own, sites, coordinator)
    return Parts(
        kit, settings, state, loop, flows, transfers, hub, coordinator, sites, pump, ending, registry, own, audit
    )


def _state(registry: Registry, contents: Contents, found: start.Found) -> State:
    """Return the state that the ledger describes; whoever was revoked stays so."""
    registry.roll.revoked.update({one.name: one.revoked_at for one in contents.switches.values() if one.revoked_at})
    sites, jobs = registry.roll.now.sites(), registry.settings.max_jobs
    return start.state_from(contents, sites, found, max_jobs=jobs, now=time.monotonic())


def _spread(registry: Registry, own: Identity, sites: Sessions, coordinator: ServerCoordinator) -> None:
    """Let news of who is who, and of who certifies that, reach everybody."""

    def told(new: Federation, signed: bytes, gone: frozenset[str]) -> None:
        for name in gone:  # who comes back needs an invitation
            coordinator.take_back(name, time.time())
        own.trust_anew()
        sites.published(new, signed)

    def lent() -> None:
        own.renew()
        sites.renew_all()

    registry.told, registry.lent = told, lent
    registry.keep, registry.settled = coordinator.loop.keep, coordinator.loop.settled


def _auditor(kit: Kit, loop: Loop, hub: Hub, ledger: Ledger, contents: Contents) -> Auditor:
    """Return who goes on with the audit trail that the ledger holds."""
    return Auditor(
        project=kit.project,
        root_pem=lambda: kit.root_file.read_bytes(),  # noqa: PLW0108 - later it is another file
        identity=lambda: (kit.key_file.read_bytes(), kit.certificate.decode()),
        keep=loop.keep,
        send=hub.send_all,
        read=ledger.trail,
        last=contents.audited,
        signed=contents.signed,
    )


async def _open(parts: Parts, stack: AsyncExitStack) -> Door:
    """Open the three doors: sites on 8002, people on 8003, health on 8004; return the first."""
    kit, settings = parts.kit, parts.settings
    sock = bound(settings.listen_host, kit.fed_port, setting=FED_PORT)
    door = Door(sock, parts.own.for_sites, parts.sites.serve, parts.sites.refused)
    await stack.enter_async_context(door)
    vitals = health.Vitals(
        ready=lambda: parts.state.problem,
        becomes_ready=parts.loop.has_room,
        metrics=lambda: _metrics(parts.state, parts.hub, parts.transfers),
    )
    config = health.config(vitals, host=settings.health_host, port=settings.health_port)
    await stack.enter_async_context(health.serving(config, setting=health.PORT))
    app = rest.app(parts.coordinator, parts.registry, parts.coordinator.roll)
    people = rest.config(
        app, host=settings.listen_host, port=kit.admin_port, cert_file=kit.cert_file, key_file=kit.key_file
    )
    await stack.enter_async_context(rest.serving(people))
    parts.own.keep_fresh(people.ssl)
    stack.callback(parts.own.end)
    parts.loop.check_room()
    return door


def _metrics(state: State, hub: Hub, transfers: Transfers) -> Iterator[health.Metric]:
    yield health.Metric("convoy_sites_connected", "Sites with an open stream.", len(hub.lines))
    listed = sum(site.listed for site in state.sites.values())
    yield health.Metric("convoy_sites_known", "Sites of the federation.", listed)
    for name in ("submitted", "running", "ending", "completed", "failed", "aborted"):
        count = sum(1 for job in state.jobs.values() if job.record.state == name)
        yield health.Metric("convoy_jobs", "Jobs by state.", count, labels=(("state", name),))
    rounds = sum(max(job.committed, 0) for job in state.jobs.values())
    yield health.Metric("convoy_rounds_committed", "Rounds committed, of the jobs that are kept.", rounds)
    yield health.Metric("convoy_update_bytes_received", "Bytes of updates from sites.", transfers.received, "counter")
    yield health.Metric("convoy_model_bytes_sent", "Bytes of models to sites.", transfers.sent, "counter")
    yield health.Metric("convoy_storage_full", "1 while the disk is too full for new work.", bool(state.problem))
    yield health.Metric("convoy_resident_bytes", "Resident memory of the server process.", resident_bytes())
