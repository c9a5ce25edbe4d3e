"""Fixtures: a server's coordinator over a real machine, loop and ledger, without its doors."""

import asyncio
import contextlib

import pytest
import structlog

from convoy.control.clock import Now
from convoy.control.machine import Machine
from convoy.control.records import SiteName
from convoy.control.state import LiveSite, State
from convoy.node.process import Ending, Notes
from convoy.node.supervisor import Supervisor
from convoy.server import start
from convoy.server.attendance import Attendance
from convoy.server.auditor import Auditor
from convoy.server.coordinator import ServerCoordinator
from convoy.server.files import Workspace
from convoy.server.following import Following
from convoy.server.hub import Hub
from convoy.server.intake import Intake
from convoy.server.logs import Logbook
from convoy.server.loop import Loop
from convoy.server.reading import JobReader
from convoy.server.results import open_results
from convoy.store.ledger import open_ledger
from convoy.trust.federation import Federation, Membership, Participant


@pytest.fixture
async def coordinator(tmp_path):
    """A coordinator of two sites; effects go nowhere, so what happens is what a test posts to `coordinator.loop`."""
    names = [SiteName("site-1"), SiteName("site-2")]
    membership = Membership(Federation("clinics", 1, dict.fromkeys(names, Participant("site", "a"))), b"")
    async with coordinating(tmp_path, membership, lambda effect: None) as made:
        yield made


@contextlib.asynccontextmanager
async def coordinating(tmp_path, membership, perform):
    """Give a coordinator of the sites of a roll, over a loop whose effects `perform` does."""
    (tmp_path / "jobs").mkdir()
    workspace = Workspace(tmp_path)
    state = State(4, {name: LiveSite(name) for name in map(SiteName, membership.now.sites())})
    attendance = Attendance(state, membership)
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        loop = Loop(
            Machine(state, start.needs_of),
            ledger,
            room=lambda: "",
            perform=perform,
            supervisor=Supervisor(None, end=lambda *_: None),
            observe=attendance.decided,
        )
        reader = JobReader(state, ledger.history, workspace, lambda: Now(0.0, 0.0))
        deciding = asyncio.create_task(loop.run())
        yield ServerCoordinator(
            loop=loop,
            reader=reader,
            audit=Auditor(
                "clinics",
                b"",
                lambda: (b"", ""),
                loop.keep,
                lambda down: None,
                ledger.trail,
                ledger.searched,
                None,
                None,
            ),
            workspace=workspace,
            intake=Intake(state, workspace, membership, ("project_admin",), ledger.history),
            hub=Hub(),
            results=open_results("", tmp_path / "results"),
            membership=membership,
            expel=lambda site: None,
            version="0",
            following=Following(loop, reader, membership, Logbook(workspace).of),
            attendance=attendance,
            notes=Notes(),
            ending=Ending(),
            log=structlog.get_logger(),
        )
        deciding.cancel()
        await asyncio.wait({deciding})
