"""Nodes without sockets, for what is said to them: a server with one running job, a site, a workflow's server."""

import asyncio
from functools import cache
from types import SimpleNamespace

import numpy as np
import structlog

from convoy.control import events
from convoy.control.clock import Now
from convoy.control.machine import Machine
from convoy.control.records import Job, JobId, Question, SiteName
from convoy.control.state import LiveSite, Needs, State
from convoy.errors import Unreachable
from convoy.node.launcher import Order
from convoy.node.phases import Phases
from convoy.node.process import Ending
from convoy.node.supervisor import Supervisor
from convoy.pods.link import PodLink
from convoy.pods.worker import POD, PodWorker
from convoy.server.artifacts import Artifacts
from convoy.server.flows import Flows
from convoy.server.hub import Hub
from convoy.server.logs import JobLogs
from convoy.server.sessions import Sessions
from convoy.server.standing import Standing
from convoy.server.transfers import Transfers
from convoy.site.agent import Agent
from convoy.site.checkpoints import FILE, Checkpoints
from convoy.site.context import Site
from convoy.site.history import History
from convoy.site.line import Line
from convoy.site.quarantine import Quarantine
from convoy.site.release import Release
from convoy.spec.kit import PENDING, Kit
from convoy.spec.policy import PolicyFile
from convoy.store import arrays
from convoy.trust import enrolment
from convoy.trust.federation import Federation, Membership, sign
from convoy.wire import convoy_pb2 as pb
from convoy.wire import pods_pb2
from convoy.wire.budget import Budget
from convoy.wire.frames import LENGTH, length_of, parsed
from convoy.wire.pump import Pump
from convoy.wire.tls import Peer
from tests.fuzz.targets import JOB, PROJECT, SITE, world

HERE, NEEDS = SiteName(SITE), Needs(min_sites=1, sites=frozenset(), cpu=1, memory=0, gpu=0, patience_s=60.0)


class Idle:
    """A task group in which nothing runs; an auditor and a registry that nobody hears."""

    def create_task(self, work):
        work.close()
        return SimpleNamespace(add_done_callback=lambda call: call(None))

    def __getattr__(self, name):
        return lambda *_, **__: None


def unforeseen(_job, _line, traceback):
    """Fail where a node would end a job because of a bug."""
    raise AssertionError(traceback)


class Strict(Transfers):
    """Transfers that hide no bug."""

    def _unforeseen(self, _site, _offer, problem):
        raise problem


@cache
def workspace():
    """A server's folder with the job's files; the digest of its model."""
    from convoy.server.files import Workspace

    made = Workspace(world()[0] / "server")
    files = made.job(JOB)
    files.logs.mkdir(parents=True)
    (files.folder / "blobs").mkdir()
    files.bundle.write_bytes(b"CONVOYB1")
    return made, arrays.save(files.blobs, "test", {"w": np.zeros(4, np.float32)})


def running():
    """A machine with a running job and its open question; what it wants done is what it returns."""
    _, model = workspace()
    machine = Machine(
        State(4, {HERE: LiveSite(HERE), SiteName("site-2"): LiveSite(SiteName("site-2"))}), lambda _: NEEDS
    )

    def post(event):
        return machine.step(event, Now(0.0, 1e9))

    capacity = events.Capacity(4, 1 << 30, 0)
    record = Job(JobId(JOB), "n", "ada", "org", "b" * 64, 1, "{}", "submitted", "", 1.0)
    for event in (
        events.SiteJoined(HERE, capacity, "1", frozenset()),
        events.Submitted(record),
        events.CommitAsked(record.id, 0, model, {}, False),
        events.MemberReady(record.id, HERE),
        events.Asked(Question(record.id, "1.0", "train", 1, 3, model)),
    ):
        post(event)
    return machine, post


def server():
    """Sessions of a server to which the site is connected, its line, and its standing."""
    made, _ = workspace()
    machine, post = running()
    hub, idle = Hub(), Idle()
    line = hub.open(HERE, "p", Idle())
    transfers = Strict(machine.state, made, hub, post, lambda: "", Pump(), idle, Phases())
    logs = JobLogs(made.job(JOB).logs)
    membership = Membership(Federation(PROJECT, 1, {}), world()[1].pem)
    peer = Peer(HERE, 1.0, 2e9, renews=False)
    registry = SimpleNamespace(
        membership=membership, renewed=lambda _, request: (enrolment.requested_key(request), (peer, b""))[1]
    )
    artifacts = Artifacts(machine.state, made, transfers.pump, 1 << 20, lambda: 1 << 30)
    made = Sessions(PROJECT, "1", machine.state, hub, transfers, post, lambda _: logs, registry, idle, artifacts)
    return made, line, Standing(machine.state, membership, peer)


def flows():
    """What hears the job's workflow."""
    made, _ = workspace()
    machine, post = running()
    logs = JobLogs(made.job(JOB).logs)
    parts = Flows(
        machine.state,
        made,
        Idle(),
        Supervisor(Idle(), unforeseen),
        post,
        lambda _: logs,
        {},
        lambda: "",
        lambda: 1 << 30,
        lambda job, *, after, limit: [],
    )
    return lambda up: parts._said(machine.state.jobs[JobId(JOB)], Idle(), up)


def site():
    """A site that is connected, whose jobs never run."""
    folder = world()[0] / "site"
    for part in ("work/jobs", "startup", "local"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    kit = Kit(folder, PROJECT, "site", SITE, "org", "localhost", 1, 2, folder / "work")
    (folder / "startup" / "root.crt").write_bytes(world()[1].pem)
    kit.federation_file.write_bytes(sign(Federation(PROJECT, 1, {}), world()[1].key))
    (folder / "work" / PENDING).write_bytes(world()[3][0])
    line = Line(Idle(), Idle())
    line.connected.set()
    supervisor = Supervisor(Idle(), unforeseen)
    made = Site(
        kit,
        Idle(),
        folder / "work",
        line,
        Idle(),
        structlog.get_logger(),
        supervisor,
        Quarantine(folder / "faults.json"),
        Release(kit, PolicyFile(kit.local / "policy.yaml")),
        History(folder / "work", unforeseen),
    )
    return Agent(made, Idle(), Ending(asyncio.Event()), None, Checkpoints(made.folder / FILE))


class Lines:
    """A stream whose bytes have all come; at their end, the other end is gone."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.heard = 0

    async def read(self, kind):
        if not self._data:
            return None
        length = length_of(bytes(self._next(LENGTH.size)))
        return parsed(kind, bytes(self._next(length)))

    async def take(self, view):
        found = self._next(min(len(view), max(len(self._data), 1)))
        view[: len(found)] = found
        return len(found)

    def _next(self, size):
        if size > len(self._data):
            raise Unreachable("the line broke")
        found, self._data = self._data[:size], self._data[size:]
        return found


async def from_a_pod(data: bytes) -> None:
    """Let a worker hear these bytes as its pod's; what it keeps is removed."""
    files = workspace()[0].job(JOB)
    begin = pb.BeginTrainer(job=JOB, code=str(files.folder), blobs=str(files.folder / "blobs"), out=str(files.out))
    order = Order("m", pb.WorkerDown(trainer=begin), files.folder, {})
    made = ({"metadata": {"name": "w"}}, {})
    worker = PodWorker(Idle(), made, order, output=len, waits=len, leaving=asyncio.Event(), artifacts=100)
    before = files.blobs.digests()
    await worker._listen(
        PodLink(Lines(data), files.blobs, asyncio.Queue(), (pods_pb2.PodUp, pods_pb2.PodDown), budget=Budget(POD))
    )
    for digest in files.blobs.digests() - before:
        files.blobs.condemn(digest)
