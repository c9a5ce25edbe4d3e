"""The server's composition root: it builds every part, passes it to the others, and drains at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

import convoy
from convoy.admin import serve as rest
from convoy.control import events
from convoy.control.machine import Machine
from convoy.control.records import JobId
from convoy.control.view import ReadOnlyState
from convoy.node import process
from convoy.node.launcher import Launcher
from convoy.node.process import Ending, Notes, say_ready, set_up, signals
from convoy.node.supervisor import Supervisor
from convoy.pods.choice import chosen
from convoy.server import start
from convoy.server.artifacts import Artifacts
from convoy.server.auditor import Auditor
from convoy.server.coordinator import ServerCoordinator
from convoy.server.files import Workspace
from convoy.server.flows import Flows
from convoy.server.hub import Hub
from convoy.server.identity import Identity
from convoy.server.intake import Intake
from convoy.server.logs import Logbook
from convoy.server.loop import Loop, now
from convoy.server.metrics import metrics
from convoy.server.performer import Performer
from convoy.server.reading import JobReader
from convoy.server.registry import Registry
from convoy.server.results import Results, open_results
from convoy.server.sessions import Sessions
from convoy.server.transfers import Transfers
from convoy.spec.kit import Kit
from convoy.spec.settings import Settings
from convoy.store.ledger import Contents, Ledger, open_ledger, sqlite_url
from convoy.trust import enrolment, roll
from convoy.trust.federation import Federation, Roll
from convoy.trust.issuing import Issuing
from convoy.wire import health
from convoy.wire.door import Door, bound
from convoy.wire.pump import Pump

DRAIN_S: Final = 10.0  # for the last records to become durable
FED_PORT: Final = "fed_learn_port in project.yml, then run `convoy provision` again"
LAST_WORDS_S: Final = 0.5  # for sites to receive the message that the server stops


def run(kit: Kit, settings: Settings, *, ready_fd: int | None = None) -> int:
    """Run the server in the foreground until it is told to stop; return the exit status."""
    notes = Notes()
    set_up(settings.log_format, notes)
    return process.run(_main(kit, settings, notes, ready_fd))


@dataclass(frozen=True, slots=True)
class Shared:
    """What the parts of a server share; it needs none of them."""

    state: ReadOnlyState
    workspace: Workspace
    book: Logbook
    results: Results
    hub: Hub
    pump: Pump
    artifacts: Artifacts


@dataclass(frozen=True, slots=True)
class Core:
    """The state machine and the parts that perform its effects."""

    supervisor: Supervisor
    loop: Loop
    flows: Flows
    transfers: Transfers
    audit: Auditor


@dataclass(frozen=True, slots=True)
class Faces:
    """The parts that talk to sites and to people."""

    registry: Registry
    own: Identity
    sites: Sessions
    coordinator: ServerCoordinator


async def _main(kit: Kit, settings: Settings, notes: Notes, ready_fd: int | None) -> int:
    folder = settings.workspace
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "jobs").mkdir(exist_ok=True)
    log, ending = structlog.get_logger(), Ending()
    async with AsyncExitStack() as stack:
        stack.enter_context(process.held(folder, kit.pid_file))
        launcher = await stack.enter_async_context(chosen(settings, (kit.root, settings.workspace)))
        issuing = _signing(kit)  # starts in parallel with everything below
        stack.callback(issuing.end)
        ledger = await asyncio.to_thread(open_ledger, settings.database or sqlite_url(folder / "convoy.sqlite"))
        stack.callback(ledger.close)
        found = start.Found()
        contents = await asyncio.to_thread(_load, kit, ledger, Workspace(folder), found)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        people, signed = roll.current(kit)
        known = Roll(people, kit.root_file.read_bytes())
        state = start.state_from(contents, known.now.sites(), found, max_jobs=settings.max_jobs, now=now())
        machine = Machine(state, start.needs_of)
        shared = _shared(settings, machine.state)
        core = _core(kit, settings, shared, machine, ledger=ledger, contents=contents, launcher=launcher, group=group)
        faces = _faces(
            kit,
            settings,
            shared,
            core,
            issuing=issuing,
            ledger=ledger,
            roll=known,
            signed=signed,
            notes=notes,
            ending=ending,
        )
        known.revoked.update({one.name: one.revoked_at for one in contents.switches.values() if one.revoked_at})
        deciding = group.create_task(core.loop.run())
        await asyncio.to_thread(start.tidy, shared.state, ledger.history, shared.workspace, found)
        for lost in await asyncio.to_thread(start.lost_updates, shared.state, shared.workspace, found):
            core.loop.post(lost)
        for job, problem in found.broken.items():
            core.supervisor.failed(job, problem)
        core.audit.note("server", "start", outcome=f"Convoy {convoy.__version__}")
        core.loop.resume()
        stack.callback(shared.pump.close)
        door = await stack.enter_async_context(_doors(kit, settings, shared, core, faces))
        log.info("server ready", project=kit.project, sites=len(shared.state.sites), fed_port=kit.fed_port)
        with signals(ending):
            say_ready(ready_fd)
            await ending.event.wait()
        log.info("server stops", restart=ending.restart)
        await _drain(shared, core, door, ending)
        deciding.cancel()
    return ending.status


async def _drain(shared: Shared, core: Core, door: Door, ending: Ending) -> None:
    """Send the last messages to the sites, and make every decision durable."""
    core.audit.leave("restarts" if ending.restart else "done")
    with suppress(TimeoutError):  # so that the sites hear the last checkpoint
        async with asyncio.timeout(LAST_WORDS_S):
            await core.loop.settled()
    shared.hub.close_all()
    await door.shut(LAST_WORDS_S)
    core.flows.stop_all()
    with suppress(TimeoutError):  # the disk is full; nothing was sent that is not durable
        async with asyncio.timeout(DRAIN_S):
            await core.loop.settled()


def _load(kit: Kit, ledger: Ledger, workspace: Workspace, found: start.Found) -> Contents:
    """Return the ledger's state without rounds whose model was lost in a power cut; add the kit's invitations to it."""
    ledger.write(enrolment.invites_from_json(kit.invites_file.read_bytes()) if kit.invites_file.exists() else [])
    contents = ledger.load()
    undone = start.undone(contents, ledger.history, workspace, found)
    if not undone:
        return contents
    for lost in undone:
        structlog.get_logger().warning("a round is repeated because its model is lost", job=lost.job, round=lost.round)
    ledger.write(undone)
    return ledger.load()


def _signing(kit: Kit) -> Issuing:
    """Start the process that has the issuing key."""

    def tell(lost: str) -> None:
        structlog.get_logger().warning("the signer died and is started again", reason=lost)

    return Issuing(kit, tell)


def _shared(settings: Settings, state: ReadOnlyState) -> Shared:
    """Build what the parts share."""
    workspace, pump = Workspace(settings.workspace), Pump()
    free = partial(workspace.free, settings.disk_reserve)
    return Shared(
        state=state,
        workspace=workspace,
        book=Logbook(workspace),
        results=open_results(settings.results, settings.workspace / "results"),
        hub=Hub(),
        pump=pump,
        artifacts=Artifacts(state, workspace, pump, settings.artifacts, free),
    )


def _transfers(shared: Shared, loop: Loop, audit: Auditor) -> Transfers:
    """Build what moves blobs."""
    return Transfers(
        state=shared.state,
        workspace=shared.workspace,
        hub=shared.hub,
        post=loop.post,
        check_room=loop.check_room,
        pump=shared.pump,
        audit=audit,
    )


def _core(
    kit: Kit,
    settings: Settings,
    shared: Shared,
    machine: Machine,
    *,
    ledger: Ledger,
    contents: Contents,
    launcher: Launcher,
    group: asyncio.TaskGroup,
) -> Core:
    """Build the state machine's loop and the performer; effects can cause events, so each knows the other."""
    workspace = shared.workspace
    supervisor = Supervisor(group, end=lambda job, *why: loop.post(events.Broken(JobId(job), *why)))
    loop = Loop(
        machine,
        ledger,
        room=partial(workspace.room, settings.disk_reserve),
        perform=lambda effect: performer(effect),  # noqa: PLW0108 - it is made below, with this loop
        supervisor=supervisor,
    )
    flows = Flows(
        state=shared.state,
        workspace=workspace,
        launcher=launcher,
        supervisor=supervisor,
        post=loop.post,
        logs=shared.book.of,
        env=settings.env,
        check_room=loop.check_room,
        free=partial(workspace.free, settings.disk_reserve),
        past=ledger.history.past,
    )
    audit = _auditor(kit, loop, shared.hub, ledger, contents)
    transfers = _transfers(shared, loop, audit)
    performer = Performer(
        state=shared.state,
        workspace=workspace,
        hub=shared.hub,
        transfers=transfers,
        artifacts=shared.artifacts,
        flows=flows,
        results=shared.results,
        supervisor=supervisor,
        post=loop.post,
        check_room=loop.check_room,
        logs_of=shared.book.of,
        forget_logs=shared.book.forget,
        note=structlog.get_logger(),
        audit=audit,
        every_round=ledger.history.every_round,
    )
    return Core(supervisor=supervisor, loop=loop, flows=flows, transfers=transfers, audit=audit)


def _faces(
    kit: Kit,
    settings: Settings,
    shared: Shared,
    core: Core,
    *,
    issuing: Issuing,
    ledger: Ledger,
    roll: Roll,
    signed: bytes,
    notes: Notes,
    ending: Ending,
) -> Faces:
    """Build the parts that talk to sites and people; changes of participants or roles are passed to all of them."""
    own = Identity(kit, issuing, settings.site_certificate_life)
    registry = Registry(
        project=kit.project,
        issuing=issuing,
        ledger=ledger,
        roll=roll,
        signed=signed,
        kit=kit,
        settings=settings,
        keep=core.loop.keep,
        settled=core.loop.settled,
        announce=lambda *news: _announce(*news, own=own, sites=sites, coordinator=coordinator),
        renew_all=lambda: _renew_all(own, sites),
    )
    sites = Sessions(
        project=kit.project,
        version=convoy.__version__,
        state=shared.state,
        hub=shared.hub,
        transfers=core.transfers,
        post=core.loop.post,
        logs=shared.book.of,
        registry=registry,
        audit=core.audit,
        artifacts=shared.artifacts,
    )
    coordinator = ServerCoordinator(
        loop=core.loop,
        reader=JobReader(shared.state, ledger.history, shared.workspace, now),
        audit=core.audit,
        workspace=shared.workspace,
        intake=Intake(shared.state, shared.workspace, roll, settings.custom_workflows, ledger.history),
        hub=shared.hub,
        results=shared.results,
        roll=roll,
        expel=sites.expel,
        version=convoy.__version__,
        logs_of=shared.book.of,
        notes=notes,
        ending=ending,
        log=structlog.get_logger(),
    )
    return Faces(registry=registry, own=own, sites=sites, coordinator=coordinator)


def _announce(
    new: Federation,
    signed: bytes,
    gone: frozenset[str],
    *,
    own: Identity,
    sites: Sessions,
    coordinator: ServerCoordinator,
) -> None:
    """Pass a newer federation.json to every part that uses it."""
    for name in gone:  # a participant that is listed again needs an invitation
        coordinator.take_back(name, time.time())
    own.trust_anew()
    sites.published(new, signed)


def _renew_all(own: Identity, sites: Sessions) -> None:
    """Have all certificates renewed, because the issuing authority has changed."""
    own.renew()
    sites.renew_all()


def _auditor(kit: Kit, loop: Loop, hub: Hub, ledger: Ledger, contents: Contents) -> Auditor:
    """Return the auditor that continues the audit trail in the ledger."""
    return Auditor(
        project=kit.project,
        root_pem=lambda: kit.root_file.read_bytes(),  # noqa: PLW0108 - later it is another file
        identity=lambda: (kit.key_file.read_bytes(), kit.certificate.decode()),
        keep=loop.keep,
        send=hub.send_all,
        read=ledger.trail,
        search=ledger.searched,
        last=contents.audited,
        signed=contents.signed,
    )


@asynccontextmanager
async def _doors(kit: Kit, settings: Settings, shared: Shared, core: Core, faces: Faces) -> AsyncIterator[Door]:
    """Serve the three ports for as long as the context lasts: sites on 8002 (given), people on 8003, health on 8004."""
    sock = bound(settings.listen_host, kit.fed_port, setting=FED_PORT)
    vitals = health.Vitals(
        ready=lambda: shared.state.problem,
        becomes_ready=core.loop.has_room,
        metrics=lambda: metrics(shared.state, shared.hub, core.transfers),
    )
    config = health.config(vitals, host=settings.health_host, port=settings.health_port)
    app = rest.app(faces.coordinator, faces.registry, faces.registry.roll)
    async with (
        Door(sock, faces.own.for_sites, faces.sites.serve, faces.sites.refused) as door,
        health.serving(config, setting=health.PORT),
    ):
        people = rest.config(
            app, host=settings.listen_host, port=kit.admin_port, cert_file=kit.cert_file, key_file=kit.key_file
        )
        async with rest.serving(people):
            faces.own.keep_fresh(people.ssl)
            core.loop.check_room()
            try:
                yield door
            finally:
                faces.own.end()
