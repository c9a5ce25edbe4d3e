"""The parts of a server, each built with what it needs: those that all share, the decisions, the faces to others."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial

import structlog

import convoy
from convoy.control import effects, events
from convoy.control.clock import Now
from convoy.control.machine import Machine
from convoy.control.records import JobId
from convoy.control.view import ReadOnlyState
from convoy.node.launcher import Launcher
from convoy.node.metrics import NodeMetrics
from convoy.node.process import Ending, Notes
from convoy.node.supervisor import Supervisor
from convoy.server.artifacts import Artifacts
from convoy.server.attendance import Attendance
from convoy.server.auditor import Auditor
from convoy.server.coordinator import ServerCoordinator
from convoy.server.files import Workspace
from convoy.server.flows import Flows
from convoy.server.following import Following
from convoy.server.hub import Hub
from convoy.server.identity import Identity
from convoy.server.intake import Intake
from convoy.server.logs import Logbook
from convoy.server.loop import Loop, now
from convoy.server.observer import Observer
from convoy.server.performer import Performer
from convoy.server.reading import JobReader
from convoy.server.registry import Registry
from convoy.server.results import Results, open_results
from convoy.server.sessions import Sessions
from convoy.server.transfers import Transfers
from convoy.spec.kit import Kit
from convoy.spec.settings import Settings
from convoy.store.ledger import Contents, Ledger
from convoy.trust.federation import Federation, Membership
from convoy.trust.issuing import Issuing
from convoy.wire.pump import Pump


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
    node: NodeMetrics
    observer: Observer
    attendance: Attendance


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


def shared(settings: Settings, state: ReadOnlyState, node: NodeMetrics, membership: Membership) -> Shared:
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
        node=node,
        observer=Observer(state, node.phases),
        attendance=Attendance(state, membership),
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
        phases=shared.node.phases,
    )


def core(
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
        perform=lambda effect: _perform(effect, performer, shared.observer),
        supervisor=supervisor,
        observe=lambda *decision: _observe(*decision, shared=shared),
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


def _observe(event: events.Event, found: list[effects.Effect], at: Now, *, shared: Shared) -> None:
    """Measure a decision, and note what it changed for a site."""
    shared.observer.decided(event, found, at)
    shared.attendance.decided(event, found, at)


def _perform(effect: effects.Effect, performer: Performer, observer: Observer) -> None:
    """Perform an effect, then measure it."""
    performer(effect)
    observer.performed(effect, now())


def faces(
    kit: Kit,
    settings: Settings,
    shared: Shared,
    core: Core,
    *,
    issuing: Issuing,
    ledger: Ledger,
    membership: Membership,
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
        membership=membership,
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
    reader = JobReader(shared.state, ledger.history, shared.workspace, core.loop.clock.now)
    coordinator = ServerCoordinator(
        loop=core.loop,
        reader=reader,
        audit=core.audit,
        workspace=shared.workspace,
        intake=Intake(shared.state, shared.workspace, membership, settings.custom_workflows, ledger.history),
        hub=shared.hub,
        results=shared.results,
        membership=membership,
        expel=sites.expel,
        version=convoy.__version__,
        following=Following(core.loop, reader, membership, shared.book.of),
        attendance=shared.attendance,
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
