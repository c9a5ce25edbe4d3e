"""A site keeps its own word when the server lies: real TLS, a real site process, a server that is not ours."""

import asyncio
import os
import time
from contextlib import asynccontextmanager

import pytest

from convoy.server import identity
from convoy.spec.kit import read_kit
from convoy.trust import bundle
from convoy.trust.issuing import Issuing
from convoy.wire import convoy_pb2 as pb
from convoy.wire import tls
from convoy.wire.door import Door, bound
from convoy.wire.stream import speak
from tests.attacks.test_floods import resident
from tests.federation import Federation
from tests.trust.tampered import WAYS, nine_ways

pytestmark = pytest.mark.scenario
JOB = "ab" * 16
REASONS = {
    "change": "a.py differs from the file that was signed",
    "delete": "differs from what its submitter signed",
    "add": "differs from what its submitter signed",
    "swap": "a.py differs from the file that was signed",
    "splice": "train.py differs from the file that was signed",
    "rename": "differs from what its submitter signed",
    "expired": "has expired",
    "other project": "the bundle is for other",
    "unsigned": "differs from what its submitter signed",
}


class Liar:
    """Welcomes a site, says what the test wants said, and hears the answers."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[pb.Up] = asyncio.Queue()
        self.hellos: asyncio.Queue[pb.Hello] = asyncio.Queue()
        self.says: asyncio.Queue[pb.Down | None] = asyncio.Queue()
        self.offers: asyncio.Queue[pb.Offer] = asyncio.Queue()
        self.listens = asyncio.Event()
        self.listens.set()

    async def serve(self, stream):
        opening = await stream.read(pb.Opening)
        match opening.WhichOneof("it"):
            case "hello":
                await self.session(stream, opening.hello)
            case "pull":
                await self.pull(stream, opening.pull)
            case "push":
                self.offers.put_nowait(await stream.read(pb.Offer))
                await self.push(stream)

    async def session(self, stream, hello):
        self.hellos.put_nowait(hello)
        await stream.write(pb.Verdict(), pb.Down(welcome=pb.Welcome(version="lies")))
        async with asyncio.TaskGroup() as group:
            speaking = group.create_task(speak(stream, self.says, pb.Down(ping=pb.Ping())))
            while await self.listens.wait() and (up := await stream.read(pb.Up)) is not None:
                self.heard.put_nowait(up)
            speaking.cancel()

    async def pull(self, stream, request):
        await stream.write(pb.Verdict(fault=pb.Verdict.NOT_ALLOWED))

    async def push(self, stream):
        await stream.write(pb.Verdict(), pb.Want())


@asynccontextmanager
async def lied_to(tmp_path, settings=""):
    """A site whose server lies."""
    federation = Federation(tmp_path / "fed", sites=1, settings=settings)
    kit, liar, site = read_kit(federation.prod / "server"), Liar(), federation.nodes["site-1"]
    kit.work.mkdir()
    issuing = Issuing(kit, print)
    identity.make(kit, issuing)
    issuing.end()
    sock = bound("127.0.0.1", kit.fed_port, setting="none")
    async with Door(sock, lambda: tls.server_context(kit), liar.serve, lambda _: None):
        try:
            await asyncio.to_thread(site.start)
            await liar.hellos.get()
            yield federation, liar
        finally:
            await asyncio.to_thread(site.stop)


def packed(federation, *, signer="ada@example.org", project="bench", files=None, **more):
    """A bundle signed with a key of the federation."""
    kit = federation.prod / signer / "startup"
    made = files or {"job.yaml": b"name: x\ntrainer: train.py\n", "train.py": b"open('/tmp/never', 'w')\n"}
    return bundle.pack(
        made,
        project=project,
        submitter=signer,
        key_pem=(kit / "node.key").read_bytes(),
        cert_pem=(kit / "node.crt").read_bytes(),
        **{"now": time.time()} | more,
    )


def start(data: bytes, job: str = JOB) -> pb.Down:
    return pb.Down(start=pb.Start(job=job, bundle="0" * 64, size=len(data), whole=data))


async def refused(liar: Liar) -> str:
    up = await liar.heard.get()
    assert up.WhichOneof("it") == "refused", up
    return up.refused.reason


async def test_a_bundle_with_one_byte_changed_is_refused_by_the_site_itself(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        data = bytearray(packed(federation))
        data[-3] ^= 1
        liar.says.put_nowait(start(bytes(data)))
        assert "train.py" in await refused(liar)
        assert not (federation.nodes["site-1"].kit / "work" / "jobs" / JOB / "code").exists()


async def test_each_of_nine_ways_of_tampering_is_refused_by_the_site_itself_before_anything_is_unpacked(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        ways = nine_ways(lambda files, **more: packed(federation, files=files, **more))
        assert tuple(ways) == WAYS
        for place, (way, data) in enumerate(ways.items()):
            job = f"{place:032x}"
            liar.says.put_nowait(start(data, job))
            assert REASONS[way] in await refused(liar), way
            left = sorted(path.name for path in (federation.nodes["site-1"].kit / "work" / "jobs" / job).iterdir())
            assert left == ["blobs", "bundle", "outbox"], way


async def test_a_bundle_that_is_signed_for_other_sites_is_refused_by_the_site_itself(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        data = packed(federation, sites=["site-2", "site-9"])
        liar.says.put_nowait(start(data, job_of(federation, data)))
        assert await refused(liar) == "the bundle is not for site-1: it is signed for site-2, site-9"


async def test_a_server_cannot_make_a_site_run_what_its_policy_refuses(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        site = federation.nodes["site-1"].kit
        (site / "local" / "policy.yaml").write_text("# nobody\nrun: []\n")
        data = packed(federation)
        for _ in range(2):
            liar.says.put_nowait(start(data, job := job_of(federation, data)))
            reason = await refused(liar)
            assert reason.startswith("ada@example.org may not run code at site-1: policy.yaml:2: no rule of `run` fits")
            assert f"convoy site approve {digest_of(federation, data)} --kit KIT" in reason
            assert not (site / "work" / "jobs" / job / "code").exists()
            liar.says.put_nowait(pb.Down(stop=pb.Stop(job=job)))
            assert (await liar.heard.get()).WhichOneof("it") == "stopped"


async def test_a_log_longer_than_any_costs_the_server_its_line_and_the_site_nothing(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        for lie in (
            pb.Down(start=pb.Start(job=JOB, bundle="0" * 64, size=1, whole=b"x", log_offset=2**64 - 1)),
            pb.Down(welcome=pb.Welcome(jobs=[pb.Held(job=JOB, log_offset=2**63)])),
        ):
            liar.says.put_nowait(lie)
            await liar.hellos.get()  # it hung up, and came back
        assert list((federation.nodes["site-1"].kit / "work" / "jobs").iterdir()) == []


def checked(federation, data):
    root_pem = (federation.prod / "server" / "startup" / "root.crt").read_bytes()
    return bundle.verify(data, root_pem=root_pem, project="bench", now=time.time())


def job_of(federation, data: bytes) -> str:
    return checked(federation, data).id


def digest_of(federation, data: bytes) -> str:
    return checked(federation, data).digest


async def test_a_bundle_of_another_project_is_refused_by_the_site_itself(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        liar.says.put_nowait(start(packed(federation, project="other")))
        assert "other" in await refused(liar)


async def test_a_bundle_that_a_site_has_signed_is_refused(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        liar.says.put_nowait(start(packed(federation, signer="site-1")))
        assert "admin" in await refused(liar)


async def test_a_bundle_that_is_sent_once_more_under_another_name_is_refused(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        liar.says.put_nowait(start(packed(federation)))
        assert "another job's" in await refused(liar)


async def test_bytes_that_are_no_bundle_are_refused(tmp_path):
    async with lied_to(tmp_path) as (_, liar):
        liar.says.put_nowait(start(b"CONVOYB1" + b"\0" * 100))
        assert await refused(liar)


@pytest.mark.parametrize("job", ["../../../escaped", "", "AB" * 16, "ab" * 17])
async def test_a_job_whose_name_would_leave_the_folder_ends_the_session_and_writes_nothing(job, tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        before = sorted(path for path in tmp_path.rglob("*") if "node.log" not in path.name)
        liar.says.put_nowait(start(packed(federation), job=job))
        await liar.hellos.get()  # it hung up, and came back
        assert sorted(path for path in tmp_path.rglob("*") if "node.log" not in path.name) == before


async def test_a_certificate_that_nobody_asked_for_ends_the_session_and_changes_nothing(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        for pem in (b"", b"no certificate", b"x" * 20_000):
            liar.says.put_nowait(pb.Down(certificate=pb.Certificate(pem=pem)))
            await liar.hellos.get()  # it hung up, and came back with what it had
        assert not (federation.nodes["site-1"].kit / "work" / "identity.pem").exists()


FOUL = {
    "federation.json": pb.Down(federation=pb.Federation(json=b"{}")),
    "pending.key": pb.Down(renew=pb.Renew()),
}


@pytest.mark.parametrize("file", FOUL)
async def test_an_error_that_nobody_foresaw_ends_the_session_and_not_the_site(file, tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        site = federation.nodes["site-1"]
        (site.kit / "work" / file).mkdir()  # a node's own files are not folders
        for _ in range(2):
            liar.says.put_nowait(FOUL[file])
            await liar.hellos.get()  # it hung up, and came back
        assert site.process.poll() is None
        log = site.log.read_text()
        assert "Traceback" in log
        assert "IsADirectoryError" in log
        assert "an error in this site" in log or file == "pending.key"
        (site.kit / "work" / file).rmdir()
        liar.says.put_nowait(pb.Down(renew=pb.Renew()))
        assert (await liar.heard.get()).WhichOneof("it") == "request"


LINES, WIDE = 200_000, 200  # 40 MB that a trainer prints: a log has some more
TALKS = f"""
for number in range({LINES}):
    print(f"{{number:0{WIDE}}}")
with open("GATE", "w") as arrived:
    arrived.write("here")
def train(task):
    return task.model
"""


async def test_a_server_that_does_not_listen_has_the_log_later_and_costs_the_site_no_memory(tmp_path):
    async with lied_to(tmp_path, "isolation: {write: [arrived]}") as (federation, liar):
        site = federation.nodes["site-1"]
        arrived = site.kit / "local" / "arrived"
        os.mkfifo(arrived)
        train = TALKS.replace("GATE", str(arrived)).encode()
        data = packed(federation, files={"job.yaml": b"name: x\ntrainer: train.py:train\n", "train.py": train})
        before = resident(site)
        liar.listens.clear()
        liar.says.put_nowait(start(data, job_of(federation, data)))
        assert await asyncio.to_thread(arrived.read_text) == "here"
        assert resident(site) - before < 32 << 20, "what is not sent yet is in the file"
        liar.listens.set()
        size, lines = 0, 0
        while lines < LINES:
            up = await liar.heard.get()
            if up.HasField("log"):
                assert up.log.offset == size, "no piece is missing"
                size += len(up.log.data)
                lines += up.log.data.count(b"\n")
        liar.says.put_nowait(pb.Down(stop=pb.Stop(job=job_of(federation, data))))
        while (await liar.heard.get()).WhichOneof("it") != "stopped":
            pass
