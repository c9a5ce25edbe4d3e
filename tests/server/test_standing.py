"""Each message and each connection of a site is judged when it has its effect, not when the site came."""

import asyncio
import time
from types import SimpleNamespace

import pytest
import structlog

from convoy.control.records import SiteName
from convoy.control.state import LiveSite, State
from convoy.errors import NotAllowed
from convoy.server.hub import Hub, Line
from convoy.server.lease import Lease
from convoy.server.sessions import Sessions
from convoy.server.standing import Standing
from convoy.trust.federation import Federation, Membership, Participant
from convoy.wire import convoy_pb2 as pb
from convoy.wire.tls import Peer

SITE, JOB = SiteName("site-1"), "a" * 32
UPS = {
    "ready": pb.Up(ready=pb.JobReady(job=JOB)),
    "waits": pb.Up(waits=pb.JobWaits(job=JOB, why="its pod is new")),
    "refused": pb.Up(refused=pb.JobRefused(job=JOB, reason="no")),
    "offer": pb.Up(offer=pb.Offer(job=JOB, answer=pb.Answer(question="1.0", weight=1.0))),
    "failed": pb.Up(failed=pb.TaskFailed(job=JOB, question="1.0", error="no")),
    "progress": pb.Up(progress=pb.Progress(job=JOB)),
    "points": pb.Up(points=pb.PointLines(job=JOB, lines=b'{"n": 0}\n')),
    "log": pb.Up(log=pb.Log(job=JOB, data=b"a line\n")),
    "stopped": pb.Up(stopped=pb.JobStopped(job=JOB)),
    "request": pb.Up(request=pb.CertificateRequest(pem=b"-----BEGIN CERTIFICATE REQUEST-----")),
}
OPENINGS = {
    "hello": pb.Opening(hello=pb.Hello(process="p")),
    "pull": pb.Opening(pull=pb.PullRequest(job=JOB, digest="0" * 64)),
    "push": pb.Opening(push=pb.Push()),
    "artifacts": pb.Opening(artifacts=pb.ArtifactsHead(job=JOB, digest="0" * 64, size=9)),
}
LOSSES = {
    "revoked": lambda world: world.membership.revoke(SITE, time.time()),
    "disabled": lambda world: setattr(world.state.sites[SITE], "enabled", False),
    "removed": lambda world: setattr(world.state.sites[SITE], "listed", False),
    "expired": lambda world: setattr(world.standing, "peer", Peer(SITE, 1.0, time.time() - 1, renews=True)),
}


class Says:
    """A stream on which one message comes; the right is lost right after it was read, before it is acted on."""

    def __init__(self, message, lose):
        self.message, self.lose, self.said, self.heard, self.cuts = message, lose, [], 0, 0

    async def read(self, _kind, _limit=0):
        message, self.message = self.message, None
        self.lose()
        return message

    async def write(self, *messages):
        self.said += messages

    def cut(self):
        self.cuts += 1


@pytest.fixture
def world():
    """Sessions of a server; each part notes what it is asked to do."""
    done = []

    def notes(what):
        return lambda *its, **named: done.append((what, its, named))

    state = State(4, {SITE: LiveSite(SITE)})
    membership = Membership(Federation("clinics", 1, {SITE: Participant("site", "a")}), b"")
    transfers = SimpleNamespace(**{name: notes(name) for name in ("offer", "pull", "pullable", "begin", "receive")})
    registry = SimpleNamespace(membership=membership, renewed=notes("certificate"), signed=b"")
    audit = SimpleNamespace(note=notes("audit"), note_some=lambda *_: None)
    artifacts = SimpleNamespace(take=notes("artifacts"))
    made = Sessions("clinics", "1", state, Hub(), transfers, notes("event"), notes("log"), registry, audit, artifacts)
    standing = Standing(state, membership, Peer(SITE, 1.0, 2e9, renews=True))
    return SimpleNamespace(sessions=made, state=state, membership=membership, standing=standing, done=done)


def test_every_message_and_every_opening_is_in_this_matrix():
    assert {field.name for field in pb.Up.DESCRIPTOR.fields} == {*UPS, "ping"}
    assert {field.name for field in pb.Opening.DESCRIPTOR.fields} == {*OPENINGS}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", UPS)
async def test_a_message_of_a_site_that_may_do_nothing_any_more_does_nothing(world, kind, loss):
    stream = Says(UPS[kind], lambda: LOSSES[loss](world))
    line = world.sessions.hub.open(SITE, "p", stream)
    with pytest.raises(NotAllowed):
        await world.sessions._read(line, SimpleNamespace(extend=lambda _: None), world.standing)
    assert world.done == []
    assert line.downs.empty()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", OPENINGS)
async def test_a_connection_of_a_site_that_may_do_nothing_any_more_is_refused(world, kind, loss):
    stream = Says(OPENINGS[kind], lambda: LOSSES[loss](world))
    await world.sessions._serve(world.standing, stream)
    assert world.done == []
    assert world.sessions.hub.lines == {}
    assert [verdict.fault for verdict in stream.said] == [pb.Verdict.NOT_ALLOWED]


@pytest.mark.parametrize("loss", LOSSES)
async def test_an_offer_of_a_site_that_may_do_nothing_any_more_is_not_judged(world, loss):
    stream = Says(pb.Offer(job=JOB, answer=pb.Answer(question="1.0")), lambda: LOSSES[loss](world))
    with pytest.raises(NotAllowed):
        await world.sessions._push(world.standing, stream)
    assert world.done == []


async def test_who_is_expelled_loses_its_transfers_at_once_and_its_line_after_its_last_words(world, monkeypatch):
    monkeypatch.setattr("convoy.server.sessions.LAST_WORDS_S", 0.0)
    line, transfer = Says(None, lambda: None), Says(None, lambda: None)
    world.sessions.open[SITE] = {line, transfer}
    world.sessions.hub.open(SITE, "p", line)
    world.sessions.expel(SITE)
    assert (line.cuts, transfer.cuts) == (0, 1)
    while not line.cuts:  # noqa: ASYNC110 - a timer of no length
        await asyncio.sleep(0)


async def test_a_site_that_is_refused_again_and_again_is_one_problem(world):
    world.state.sites[SITE].enabled = False
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            await world.sessions._serve(world.standing, Says(OPENINGS["hello"], lambda: None))
        world.membership.revoked[SITE] = 5.0
        world.state.sites[SITE].enabled = True
        await world.sessions._serve(world.standing, Says(OPENINGS["hello"], lambda: None))
    assert [line["log_level"] for line in logged] == ["warning", "info", "info", "warning"]
    assert {line["event"] for line in logged} == {"a site was refused"}


async def test_the_end_of_a_certificate_and_its_renewal_are_known_at_the_open_connection():
    line, now = Line(SITE, "p", Says(None, lambda: None)), time.time()
    lease = Lease(line, Peer(SITE, now - 100, now + 100, renews=True))
    assert line.certificate_ends_at == now + 100
    assert now <= line.renews_at <= now + 11  # half of its life is over, give or take a tenth
    lease.extend(Peer(SITE, now, now + 500, renews=False))
    assert (line.certificate_ends_at, line.renews_at) == (now + 500, 0.0)
    lease.end()
