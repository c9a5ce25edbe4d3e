"""The server's process: it builds the parts, opens the ports, and drains at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final

import structlog

import convoy
from convoy.admin import serve as rest
from convoy.control.clock import Now
from convoy.control.machine import Machine
from convoy.node import process
from convoy.node.launcher import Launcher
from convoy.node.metrics import NodeMetrics
from convoy.node.process import Ending, Notes, say_ready, set_up, signals
from convoy.node.starts import Counting
from convoy.node.traces import traced
from convoy.node.turns import Turns
from convoy.pods.choice import chosen
from convoy.server import parts, start
from convoy.server.files import Workspace
from convoy.server.loop import now
from convoy.server.metrics import ServerMetrics
from convoy.spec.kit import Kit
from convoy.spec.settings import Settings
from convoy.store.ledger import open_ledger, sqlite_url
from convoy.trust import membership
from convoy.trust.federation import Membership
from convoy.trust.issuing import Issuing
from convoy.wire import health
from convoy.wire.door import Door, bound

DRAIN_S: Final = 10.0  # for the last records to become durable
FED_PORT: Final = "fed_learn_port in project.yml, then run `convoy provision` again"
# With numpy: loaded once the server is ready, for no start without open jobs needs them.
FOR_JOBS: Final = ("convoy.spec.job", "convoy.flows.check", "convoy.store.arrays")
FOR_FLOWS: Final = ("convoy.worker.flow", "convoy.flows.fedavg")  # loaded in the process that forks workflows
LAST_WORDS_S: Final = 0.5  # for sites to receive the message that the server stops


def run(kit: Kit, settings: Settings, *, ready_fd: int | None = None) -> int:
    """Run the server in the foreground until it is told to stop; return the exit status."""
    notes = Notes()
    set_up(settings.log_format, notes, node=kit.name)
    turns = Turns()
    return process.run(_main(kit, settings, notes, turns, ready_fd), turns)


async def _main(kit: Kit, settings: Settings, notes: Notes, turns: Turns, ready_fd: int | None) -> int:
    folder = settings.workspace
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "jobs").mkdir(exist_ok=True)
    log, ending = structlog.get_logger(), Ending()
    async with AsyncExitStack() as stack:
        stack.enter_context(process.held(folder, kit.pid_file))
        launcher = Counting(
            await stack.enter_async_context(chosen(settings, (kit.root, settings.workspace), loaded=FOR_FLOWS))
        )
        issuing = _signing(kit)  # starts in parallel with everything below
        stack.callback(issuing.end)
        ledger = await asyncio.to_thread(open_ledger, settings.database or sqlite_url(folder / "convoy.sqlite"))
        stack.callback(ledger.close)
        found = start.Found()
        contents = await asyncio.to_thread(start.load, kit, ledger, Workspace(folder), found)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        people, signed = membership.current(kit)
        known = Membership(people, kit.root_file.read_bytes())
        known.revoked.update({one.name: one.revoked_at for one in contents.switches.values() if one.revoked_at})
        loaded = now()
        state = start.state_from(contents, known.now.sites(), found, max_jobs=settings.max_jobs, now=loaded)
        machine = Machine(state, start.needs_of)
        node = NodeMetrics(kit, convoy.__version__, folder, settings.disk_reserve, turns, launcher)
        stack.enter_context(traced(node.phases, settings, kit))
        shared = parts.shared(settings, machine.state, node, known)
        core = parts.core(
            kit, settings, shared, machine, ledger=ledger, contents=contents, launcher=launcher, group=group
        )
        faces = parts.faces(
            kit,
            settings,
            shared,
            core,
            issuing=issuing,
            ledger=ledger,
            membership=known,
            signed=signed,
            notes=notes,
            ending=ending,
        )
        deciding = group.create_task(core.loop.run())
        await asyncio.to_thread(start.tidy, shared.state, ledger.history, shared.workspace, found)
        await _ask_again(shared, core, found, loaded)
        for job, problem in found.broken.items():
            core.supervisor.failed(job, problem)
        core.audit.note("server", "start", outcome=f"Convoy {convoy.__version__}")
        core.loop.resume()
        told = partial(asyncio.get_running_loop().call_soon_threadsafe, core.loop.noticed)
        stack.enter_context(notes.heard_by(told))
        stack.callback(shared.pump.close)
        door = await stack.enter_async_context(_doors(kit, settings, shared, core, faces))
        log.info("server ready", project=kit.project, sites=len(shared.state.sites), fed_port=kit.fed_port)
        await _serve(launcher, ending, ready_fd)
        log.info("server stops", restart=ending.restart)
        await _drain(shared, core, door, ending)
        deciding.cancel()
    return ending.status


async def _serve(launcher: Launcher, ending: Ending, ready_fd: int | None) -> None:
    """Say that the server is ready, load what the first job needs, and wait until the server is to stop."""
    with signals(ending):
        say_ready(ready_fd)
        launcher.prepare()
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(process.load(*FOR_JOBS))
            await ending.event.wait()
            loading.cancel()


async def _ask_again(shared: parts.Shared, core: parts.Core, found: start.Found, loaded: Now) -> None:
    """Ask for the updates that the disk has lost, and count no time since the ledger was loaded.

    Files were removed and every update was read, which takes minutes where they are large, and no site could connect.
    """
    lost = await asyncio.to_thread(start.lost_updates, shared.state, shared.workspace, found)
    core.loop.clock.leave_out(loaded.mono)
    for update in lost:
        core.loop.post(update)


async def _drain(shared: parts.Shared, core: parts.Core, door: Door, ending: Ending) -> None:
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


def _signing(kit: Kit) -> Issuing:
    """Start the process that has the issuing key."""

    def tell(lost: str) -> None:
        structlog.get_logger().warning("the signer died and is started again", reason=lost)

    return Issuing(kit, tell)


@asynccontextmanager
async def _doors(
    kit: Kit, settings: Settings, shared: parts.Shared, core: parts.Core, faces: parts.Faces
) -> AsyncIterator[Door]:
    """Serve the three ports for as long as the context lasts: sites on 8002 (given), people on 8003, health on 8004."""
    sock = bound(settings.listen_host, kit.fed_port, setting=FED_PORT)
    measured = ServerMetrics(
        shared.state, shared.hub, core.transfers, shared.observer, shared.node, lambda: core.loop.waiting
    )
    vitals = health.Vitals(ready=lambda: shared.state.problem, becomes_ready=core.loop.has_room, metrics=measured.all)
    app = rest.app(faces.coordinator, faces.registry, faces.registry.membership)
    async with (
        Door(sock, faces.own.for_sites, faces.sites.serve, faces.sites.refused) as door,
        health.serving(vitals, host=settings.health_host, port=settings.health_port),
    ):
        people = rest.config(
            app, host=settings.listen_host, port=kit.admin_port, cert_file=kit.cert_file, key_file=kit.key_file
        )
        async with rest.serving(people):
            faces.own.keep_fresh(people.ssl)
            core.loop.check_room()
            try:
                async with AsyncExitStack() as more:
                    if settings.track is not None:
                        from convoy.server import tracking  # most servers do without it, and without a client's code

                        told = faces.coordinator.submitted
                        await more.enter_async_context(tracking.running(kit, settings, app.state.logins, told))
                    yield door
            finally:
                faces.own.end()
