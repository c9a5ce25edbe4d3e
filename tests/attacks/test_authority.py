"""Authority is judged where the effect is: that it was there when a request or a line began is not enough."""

import asyncio
import json
import ssl
import time

import pytest

from convoy.admin import connect, link
from convoy.errors import ConvoyError, NotAllowed
from convoy.provision import kits
from convoy.spec.kit import read_kit
from convoy.spec.project import read_project
from convoy.trust import enrolment, keys, login
from convoy.trust.authority import read_certificate
from convoy.trust.bundle import MAX_BYTES
from convoy.wire import convoy_pb2 as pb
from convoy.wire.dial import Way
from tests.federation import ADMIN, Federation
from tests.scenarios.conftest import adding, put_job

pytestmark = pytest.mark.scenario
EVE, LEA = "eve@example.org", "lea@example.org"


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    """A server and site-1; the other kits are in hostile hands."""
    people = {EVE: ("org", "project_admin"), LEA: ("org", "lead")}
    made = Federation(tmp_path_factory.mktemp("authority") / "fed", sites=4, people=people)
    made.server.start()
    made.nodes["site-1"].start()
    yield made
    made.down()


def invited(made, name):
    """Return another invitation of somebody, and let the server know it."""
    project, _ = read_project(made.project_yml, "project.yml")
    invitation = kits.invite(project, made.folder, name, now=time.time())
    with made.session() as session:
        session.publish(invitation.federation)
        known = invitation.known
        session.invite(known.hash, known.kind, known.name, known.expires_at)
    return invitation.token


async def enrolled(made, kind, name, token, key):
    """Return the certificate for a token and a key."""
    line = link.Link("localhost", made.admin_port, (made.prod / "server/startup/root.crt").read_bytes())
    said = {"kind": kind, "name": name, "token": token, "request": enrolment.request(key).decode()}
    try:
        got = json.loads(await line.ask("POST", "/api/v1/enrol", content=json.dumps(said).encode()))
        return read_certificate(got["certificate"].encode())
    finally:
        await line.close()


async def test_a_token_that_was_used_gives_no_fresher_certificate_and_none_once_it_is_withdrawn(fed):
    token, key = await asyncio.to_thread(invited, fed, "site-2"), keys.make()
    first = await enrolled(fed, "site", "site-2", token, key)
    for _ in range(3):
        again = await enrolled(fed, "site", "site-2", token, key)
        assert (again.not_valid_before_utc, again.not_valid_after_utc) == (
            first.not_valid_before_utc,
            first.not_valid_after_utc,
        )
    with pytest.raises(NotAllowed, match="no good any more"):
        await enrolled(fed, "site", "site-2", token, keys.make())
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        await ada.revoke("site-2")
    with pytest.raises(NotAllowed, match="no good any more") as refused:
        await enrolled(fed, "site", "site-2", token, key)
    assert "withdrawn" in refused.value.why
    newer = await asyncio.to_thread(invited, fed, "site-2")
    await enrolled(fed, "site", "site-2", newer, key)
    await asyncio.to_thread(invited, fed, "site-2")  # takes the one that was used, too
    with pytest.raises(NotAllowed, match="no good any more"):
        await enrolled(fed, "site", "site-2", newer, key)


async def test_tokens_that_are_redeemed_while_their_owner_is_revoked_open_nothing(fed):
    """Whatever the order in which the server sees them: what was certified before counts no more, then nothing is."""
    token, key = await asyncio.to_thread(invited, fed, "site-3"), keys.make()
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        await ada.sites()  # logged in
        redeeming = [asyncio.create_task(enrolled(fed, "site", "site-3", token, key)) for _ in range(20)]
        revoked_at = (await ada.revoke("site-3")).revoked_at
        got = await asyncio.gather(*redeeming, return_exceptions=True)
    assert all(isinstance(it, NotAllowed) or it.not_valid_before_utc.timestamp() + 60 <= revoked_at for it in got)


class Held:
    """A request by hand whose last byte is still missing."""

    def __init__(self, made, who):
        self.kit, self.port = read_kit(made.prod / who), made.admin_port
        self.root = self.kit.root_file.read_bytes()

    async def begin(self, path, body):
        """Log in, and say all of the request but its last byte."""
        line = link.Link("localhost", self.port, self.root)
        nonce = json.loads(await line.ask("GET", "/api/v1/login"))["nonce"]
        said = login.answer(self.kit.key_file.read_bytes(), self.kit.certificate, self.kit.project, nonce)
        given = json.loads(
            await line.ask("POST", "/api/v1/login", content=json.dumps(said | {"nonce": nonce}).encode())
        )
        await line.close()
        context = ssl.create_default_context(cadata=self.root.decode())
        self.reader, self.writer = await asyncio.open_connection("localhost", self.port, ssl=context)
        head = f"POST /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        self.writer.write(f"{head}Authorization: Bearer {given['token']}\r\n\r\n".encode() + body[:-1])
        await self.writer.drain()
        self.last = body[-1:]

    async def end(self):
        """Say the last byte; return the status of the answer."""
        try:
            self.writer.write(self.last)
            return int((await self.reader.readuntil(b"\r\n")).split()[1])
        finally:
            self.writer.transport.abort()


async def test_requests_that_are_held_open_do_nothing_once_their_sender_is_revoked_or_demoted(fed, tmp_path):
    project, _ = read_project(fed.project_yml, "project.yml")
    async with connect(fed.prod / LEA, server="localhost") as lea:
        bundle = await lea.pack(put_job(tmp_path / "late", {"train.py": adding()}, with_={"rounds": 1}))
    newer = await asyncio.to_thread(kits.who_is_who, project, fed.folder, now=time.time())
    invite = {"hash": "f" * 64, "kind": "site", "name": "site-4", "expires_at": time.time() + 1000}
    asked = {
        "/renew": (LEA, json.dumps({"request": enrolment.request(keys.make()).decode()}).encode()),
        "/jobs": (LEA, bundle),
        "/invites": (EVE, json.dumps(invite).encode()),
        "/federation": (EVE, newer),
    }
    assert len(bundle) < MAX_BYTES
    held = {path: Held(fed, who) for path, (who, _) in asked.items()}
    for path, (_, body) in asked.items():
        await held[path].begin(path, body)
    demoted = fed.project_yml.replace(
        f"name: {EVE}, type: admin, org: org, role: project_admin", f"name: {EVE}, type: admin, org: org, role: member"
    )
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        await ada.revoke_admin(LEA)
        less, _ = read_project(demoted, "project.yml")
        signed = await asyncio.to_thread(kits.who_is_who, less, fed.folder, now=time.time())
        number = (await ada.publish(signed)).number
        statuses = {path: await one.end() for path, one in held.items()}
        # of who is who everybody may give the server what the root has signed; this one is not newer any more
        assert statuses == {"/renew": 403, "/jobs": 403, "/invites": 403, "/federation": 409}
        assert [job.name for job in await ada.jobs() if job.name == "late"] == []
        assert (await ada.publish(signed)).number == number
        done = [it async for it in ada.audit() if getattr(it, "outcome", "") == "done"]
        assert not [it for it in done if it.actor in (f"admin:{EVE}", f"admin:{LEA}") and it.action != "login"]
        with pytest.raises(NotAllowed, match="unknown"):
            await enrolled(fed, "site", "site-4", enrolment.make_token(), keys.make())


async def test_certificates_that_a_site_asks_for_while_it_is_revoked_open_nothing(fed):
    kit = read_kit(fed.prod / "site-4")
    way = Way("localhost", kit.fed_port, kit)
    stream = await way.dial()
    await stream.write(pb.Opening(hello=pb.Hello(process="mallory", cpu=4, memory=1 << 33)))
    assert not (await stream.read(pb.Verdict)).fault
    got = []

    async def ask():
        key = keys.make()
        while True:
            await stream.write(pb.Up(request=pb.CertificateRequest(pem=enrolment.request(key))))

    async def hear():
        while (down := await stream.read(pb.Down)) is not None:
            if down.WhichOneof("it") == "certificate":
                got.append(read_certificate(down.certificate.pem))
                first.set()

    first = asyncio.Event()
    asking, hearing = asyncio.create_task(ask()), asyncio.create_task(hear())
    await first.wait()
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        revoked_at = (await ada.revoke("site-4")).revoked_at
    ended = await asyncio.gather(asking, hearing, return_exceptions=True)
    assert any(isinstance(it, ConvoyError) for it in ended)
    stream.close()
    assert all(cert.not_valid_before_utc.timestamp() + 60 <= revoked_at for cert in got)


async def test_who_leaves_the_federation_loses_what_they_follow_at_once(fed, tmp_path):
    folder = put_job(tmp_path / "followed", {"train.py": adding("gate(task)")}, sites=["site-3"], patience="300s")
    gone = "".join(line for line in fed.project_yml.splitlines(keepends=True) if EVE not in line)
    async with connect(fed.prod / ADMIN, server="localhost") as ada, connect(fed.prod / EVE, server="localhost") as eve:
        job = (await ada.submit(folder)).id
        watching = eve.watch(job)
        await anext(watching)
        project, _ = read_project(gone, "project.yml")
        await ada.publish(await asyncio.to_thread(kits.who_is_who, project, fed.folder, now=time.time()))
        with pytest.raises(NotAllowed):
            await anext(watching)
        await ada.abort(job)
