"""A peer that floods a node is slowed or cut off: others work, an operator gets in, and memory stays bounded.

Each test runs a job of site-1 to its end beside the flood, and logs how much longer its rounds took than before all
floods: `make bench-floods` shows these ratios. The flood comes from processes of this machine, so those that can are
nice: on their own machines they would not take this one's processors.
"""

import asyncio
import logging
import re
import statistics
import sys
import threading
import time
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from convoy.admin import connect
from convoy.control import points
from convoy.errors import ConvoyError, Refused
from convoy.model import blob
from convoy.server.auditor import OFTEN
from convoy.spec.kit import read_kit
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.store.points import MAX_FILE
from convoy.trust import enrolment, keys
from convoy.trust.audit import Record
from convoy.wire import convoy_pb2 as pb
from convoy.wire.dial import Way
from convoy.wire.frames import pack
from tests.federation import ADMIN, Federation
from tests.scenarios.conftest import adding, put_job, readyz

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]
ROUNDS = 60  # of which the median is taken
GROWTH = 192 << 20  # bytes that a server may have more beside a flood: queues, buffers and what it does otherwise
UNKNOWN = "0" * 32
LEAD, MEMBER = "lead@example.org", "look@example.org"
RAW = "from convoy.worker import tasks\nfrom convoy.wire import convoy_pb2 as pb\nlink = tasks.session()._link\n"


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    """A server, site-1 with its rounds, site-2 with a hostile trainer; the other kits are in hostile hands."""
    people = {LEAD: ("org", "lead"), MEMBER: ("org", "member")}
    made = Federation(tmp_path_factory.mktemp("floods") / "fed", sites=8, people=people)
    made.nodes["site-2"].prefix = ("nice", "-n", "19")
    for node in (made.server, made.nodes["site-1"], made.nodes["site-2"]):
        node.start()
    made.usual_s = round_s(made, tmp_path_factory.mktemp("usual"))
    yield made
    made.down()


def round_s(made, folder: Path) -> float:
    """Return the median time of a round of site-1."""
    job = put_job(folder, {"train.py": adding()}, with_={"rounds": ROUNDS}, sites=["site-1"], patience="60s")
    with made.session() as session:
        detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    ends = [done.committed_at for done in detail.rounds]
    return statistics.median(after - before for before, after in pairwise(ends))


def resident(node) -> int:
    """Return the bytes of a node's memory."""
    (line,) = [it for it in Path(f"/proc/{node.pid}/status").read_text().splitlines() if it.startswith("VmRSS")]
    return int(line.split()[1]) << 10


async def goes_on(made, tmp_path) -> None:
    """Run a job of site-1 to its end, and log how long its rounds took."""
    slowed = await asyncio.to_thread(round_s, made, tmp_path / "beside")
    logging.getLogger(__name__).warning(
        "beside the flood a round takes %.2f times its usual time", slowed / made.usual_s
    )


@asynccontextmanager
async def beside(made, tmp_path, *floods):
    """Run a job of site-1 beside floods, and measure the server's memory; the block runs in the midst."""
    before = resident(made.server)
    flooding = [asyncio.create_task(flood) for flood in floods]
    try:
        await goes_on(made, tmp_path)
        assert resident(made.server) - before < GROWTH
        assert not any(task.done() for task in flooding)
        yield
    finally:
        for task in flooding:
            task.cancel()
        await asyncio.wait(flooding)


class Site:
    """A site in hostile hands: its certificate is good."""

    def __init__(self, made, name):
        kit = read_kit(made.prod / name)
        self.way, self.verdict, self.cuts = Way("localhost", kit.fed_port, kit), pb.Verdict(), 0

    async def line(self):
        """Return an open line, or None with the server's verdict in `verdict`."""
        stream, stays = await self.way.dial(), False
        try:
            await stream.write(pb.Opening(hello=pb.Hello(process="mallory", cpu=4, memory=1 << 33)))
            self.verdict = await stream.read(pb.Verdict) or pb.Verdict()
            stays = not self.verdict.fault
            return stream if stays else None
        finally:
            if not stays:
                stream.close()

    async def offer(self, offer):
        """Offer an update on a connection of its own, and bring none of its bytes; return what the server wants."""
        stream = await self.way.dial()
        try:
            await stream.write(pb.Opening(push=pb.Push()), offer)
            self.verdict = await stream.read(pb.Verdict) or pb.Verdict()
            return await stream.read(pb.Want)
        finally:
            stream.close()

    async def flood(self, data, reads=False):
        """Say the same without end, as fast as it is taken; come back whenever the line is cut."""
        while True:
            with suppress(ConvoyError, OSError):
                stream = await self.line()
                if stream is None:
                    self.cuts += 1
                    await asyncio.sleep(0.2)
                    continue
                try:
                    async with asyncio.TaskGroup() as group:
                        if reads:
                            group.create_task(self._read(stream))
                        group.create_task(self._give(stream, data))
                except* (ConvoyError, OSError):
                    pass
                finally:
                    stream.close()

    async def _read(self, stream):
        while await stream.read(pb.Down) is not None:
            pass
        raise OSError("the line is at its end")

    async def _give(self, stream, data):
        while True:
            await stream.give(memoryview(data))


SAID = {
    "pings": ("site-3", pb.Up(ping=pb.Ping()), True),
    "progress": ("site-4", pb.Up(progress=pb.Progress(job=UNKNOWN)), True),
    "live metrics": (
        "site-8",
        pb.Up(points=pb.PointLines(job=UNKNOWN, lines=points.write(points.Point({"loss": 0.5})) * 100)),
        True,
    ),
    "certificate requests": (
        "site-7",
        pb.Up(request=pb.CertificateRequest(pem=enrolment.request(keys.make()))),
        True,
    ),
    "offers, whose answers it does not read": (
        "site-5",
        pb.Up(
            offer=pb.Offer(
                job=UNKNOWN,
                answer=pb.Answer(question="1.0", digest="0" * 64),
                update=pb.Blob(digest="0" * 64, whole=bytes(2000)),
            )
        ),
        False,
    ),
}


@pytest.mark.parametrize(("name", "up", "reads"), SAID.values(), ids=SAID.keys())
async def test_beside_a_site_that_floods_the_server_others_work_and_it_can_be_revoked(fed, tmp_path, name, up, reads):
    site = Site(fed, name)
    flood = site.flood(pack(up) * 1000, reads)
    async with beside(fed, tmp_path, flood), connect(fed.prod / ADMIN, server="localhost") as ada:
        assert (await ada.revoke(name)).revoked_at
    assert await site.line() is None
    assert "was revoked" in site.verdict.reason


async def test_a_site_that_pings_without_end_is_cut_off_and_told_why(fed):
    site = Site(fed, "site-6")
    stream = await site.line()
    with pytest.raises(ConvoyError):
        await asyncio.gather(site._give(stream, pack(pb.Up(ping=pb.Ping()))), site._read(stream))
    stream.close()
    assert await site.line() is None
    assert "more than 1 pings a second arrived" in site.verdict.reason
    assert "more than 1 pings a second arrived" in fed.server.log.read_text()


async def asked(ada, site, job):
    """Return an open line of a hostile site that has a task of this job, the job's id and the task."""
    stream = None
    while stream is None:  # it may still rest from another test
        stream = await site.line()
        await asyncio.sleep(0 if stream else 1)
    sent = (await ada.submit(job)).id
    await stream.write(pb.Up(ready=pb.JobReady(job=sent)))
    while (down := await stream.read(pb.Down)).WhichOneof("it") != "task":
        if down.WhichOneof("it") == "start":
            await stream.write(pb.Up(ready=pb.JobReady(job=sent)))
    return stream, sent, down.task


async def test_beside_offers_of_a_large_header_that_never_bring_their_bytes_others_work(fed, tmp_path):
    files = {"train.py": adding(), "flow.py": FLOW.replace("SITE", "site-6")}
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        site = Site(fed, "site-6")
        folder = put_job(tmp_path / "theirs", files, workflow="flow.py:run", sites=["site-6"])
        stream, job, task = await asked(ada, site, folder)
        (tmp_path / "blobs").mkdir()
        blobs = BlobFolder(tmp_path / "blobs")
        digest = arrays.save(blobs, "test", {f"layer.{n}.weight": np.ones(32, np.float32) for n in range(3000)})
        layout = blobs.read_header(digest)
        update = pb.Blob(digest=digest, size=layout.size, header=layout.header)
        answer = pb.Answer(question=task.question.id, digest=digest, weight=1.0)
        offer, reading = pb.Offer(job=job, answer=answer, update=update), asyncio.create_task(site._read(stream))
        wanted = []

        async def flood():
            while True:
                with suppress(ConvoyError, OSError):
                    want = await site.offer(offer)
                    wanted.append(len(want.ranges) if want else 0)

        try:
            async with beside(fed, tmp_path, *(flood() for _ in range(8))):
                assert any(wanted)
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            stream.close()
            await ada.abort(job)


def offers(job, question, header, size):
    """Return offers of updates that differ in one tensor: none of their headers has been parsed before."""
    place = re.search(rb"[0-9a-f]{64}", header).start()
    for number in range(24):
        other = header[:place] + f"{number:064x}".encode() + header[place + 64 :]
        update = pb.Blob(digest=blake3(other).hexdigest(), size=size, header=other)
        answer = pb.Answer(question=question, digest=update.digest, weight=1.0)
        yield pb.Offer(job=job, answer=answer, update=update)


def longest_wait(node, over) -> float:
    """Return the longest time that a node took to answer, asked again and again until it is over."""
    longest = 0.0
    while not over.is_set():
        began = time.monotonic()
        readyz(node)
        longest = max(longest, time.monotonic() - began)
    return longest


async def test_headers_that_take_long_to_parse_do_not_keep_the_server_from_others(fed, tmp_path):
    tensors = 12_000
    files = {"train.py": adding(), "flow.py": FLOW.replace("SITE", "site-6").replace("3000", str(tensors))}
    (tmp_path / "blobs").mkdir()
    blobs = BlobFolder(tmp_path / "blobs")
    layout = blobs.read_header(
        arrays.save(blobs, "test", {f"layer.{n}.weight": np.ones(32, np.float32) for n in range(tensors)})
    )
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        site = Site(fed, "site-6")
        folder = put_job(tmp_path / "theirs", files, workflow="flow.py:run", sites=["site-6"])
        stream, job, task = await asked(ada, site, folder)
        said = list(offers(job, task.question.id, layout.header, layout.size))
        began = time.monotonic()
        blob.parse(said[0].update.header)
        alone = time.monotonic() - began
        over = threading.Event()
        waiting = asyncio.create_task(asyncio.to_thread(longest_wait, fed.server, over))
        reading = asyncio.create_task(site._read(stream))
        offering = [asyncio.create_task(site.offer(one)) for one in said[1:8]]
        assert (await ada.revoke("site-6")).revoked_at
        over.set()
        longest = await waiting
        for task in (reading, *offering):
            task.cancel()
        await asyncio.wait({reading, *offering})
        stream.close()
        with suppress(Refused):  # it may have ended without its one site
            await ada.abort(job)
    assert longest < len(offering) * alone, "headers are parsed beside everything else"


FLOW = """
import numpy as np

async def run(fleet):
    model = {f"layer.{n}.weight": np.zeros(32, np.float32) for n in range(3000)}
    [one async for one in fleet.ask("train", model, sites=["SITE"])]
"""
TRAINERS = {
    "ready": "link.send(pb.WorkerUp(ready=pb.Ready()))",
    "answers": "link.send(pb.WorkerUp(answer=pb.Answer(question=task.question, weight=1.0)))",
    "failures": "link.send(pb.WorkerUp(failure=pb.Failure(error='no', traceback='no ' * 1000)))",
    "prints": "print('x' * 200)",
    "measures": "convoy.metrics({f'k{n}': 1 / (1 + n) for n in range(50)}, step=1)",
    "measures by hand": "link.send(pb.WorkerUp(points=pb.Points(points=[pb.Point(values={'a': 1.0})] * 1000)))",
}


@pytest.mark.parametrize("deed", TRAINERS.values(), ids=TRAINERS.keys())
async def test_beside_a_trainer_that_floods_its_node_others_work(fed, tmp_path, deed):
    train = RAW + adding(f"while True:\n    {deed}")
    folder = put_job(
        tmp_path / "hostile", {"train.py": train}, with_={"rounds": 1000}, sites=["site-2"], patience="60s"
    )

    async def flood(convoy):
        while True:  # a job of it ends soon where the node ends the trainer
            sent = await convoy.submit(folder)
            [_ async for _ in convoy.watch(sent.id)]

    async with (
        connect(fed.prod / ADMIN, server="localhost") as ada,
        connect(fed.prod / LEAD, server="localhost") as lea,
    ):
        before = resident(fed.nodes["site-2"])
        async with beside(fed, tmp_path, flood(lea)):
            assert resident(fed.nodes["site-2"]) - before < GROWTH
            assert (await asyncio.to_thread(readyz, fed.nodes["site-2"]))[0] == 200, "its own node has turns, too"
            assert {known.name: known.connected for known in await ada.sites()}["site-2"]
        for job in await ada.jobs():
            if job.name == "hostile" and job.state not in ("completed", "failed", "aborted"):
                with suppress(Refused):
                    await ada.abort(job.id)


STEADY = """
import threading
for step in range(1_000_000):
    convoy.metrics({f"k{n}": 1 / (1 + n + step) for n in range(20)}, step=step, phase="train")
    threading.Event().wait(0.02)
"""


async def test_beside_three_jobs_that_measure_a_thousand_values_a_second_each_others_work(fed, tmp_path):
    (fed.nodes["site-2"].kit / "local" / "policy.yaml").write_text("leave: {live: {per_hour: 100000000}}\n")
    jobs, last = {}, {}

    async def measuring(ada, number):
        folder = put_job(tmp_path / f"steady-{number}", {"train.py": adding(STEADY)}, sites=["site-2"], patience="60s")
        jobs[number] = (await ada.submit(folder)).id
        async for point in ada.points(jobs[number], follow=True):
            last[number] = point

    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        async with beside(fed, tmp_path, *(measuring(ada, number) for number in range(3))):
            assert {point.site for point in last.values()} == {"site-2"}
            assert sorted(last) == [0, 1, 2]
        for job in jobs.values():
            await ada.abort(job)
    files = [fed.prod / "server" / "work" / "jobs" / job / "points" / "site-2.jsonl" for job in jobs.values()]
    assert all(0 < file.stat().st_size <= MAX_FILE for file in files)


HOSTILE = """
import os
from convoy.wire import convoy_pb2 as pb

os.nice(19)

async def run(fleet):
    while True:
        DEED
"""
WORKFLOWS = {
    "sites": "fleet.carrier.send(pb.WorkerUp(sites=pb.SitesAsk()))",
    "ready": "fleet.carrier.send(pb.WorkerUp(ready=pb.Ready()))",
    "prints": "print('x' * 200)",
}


@pytest.mark.parametrize("deed", WORKFLOWS.values(), ids=WORKFLOWS.keys())
async def test_beside_a_workflow_that_floods_the_server_others_work(fed, tmp_path, deed):
    flow = HOSTILE.replace("DEED", deed)
    files = {"train.py": adding(), "flow.py": flow}
    folder = put_job(tmp_path / "hostile", files, workflow="flow.py:run", sites=["site-2"], patience="60s")
    async with connect(fed.prod / ADMIN, server="localhost") as ada:

        async def flood():
            while True:
                sent = await ada.submit(folder)
                [_ async for _ in ada.watch(sent.id)]

        async with beside(fed, tmp_path, flood()):
            pass
        for job in await ada.jobs():
            if job.name == "hostile" and job.state not in ("completed", "failed", "aborted"):
                with suppress(Refused):
                    await ada.abort(job.id)


# ---- people --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def hostile(made, who, deed, job=""):
    """Let somebody flood the REST API for as long as the block lasts."""
    script = Path(__file__).with_name("hostile_person.py")
    words = [script, made.prod / who, str(made.admin_port), deed, *([job] if job else [])]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    try:
        assert await process.stdout.readline() == b"begun\n"
        yield
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()


async def others_work(made, tmp_path, who, deed, job=""):
    """Run a job of site-1 beside somebody's flood; an operator and everybody else get in meanwhile."""
    before = resident(made.server)
    async with hostile(made, who, deed, job):
        await goes_on(made, tmp_path)
        for name in {ADMIN, LEAD, MEMBER} - {who}:
            async with connect(made.prod / name, server="localhost") as other:
                assert (await other.status()).project == "bench"
        assert resident(made.server) - before < GROWTH


async def test_beside_a_person_who_logs_in_without_end_others_work_and_the_audit_trail_stays_small(fed, tmp_path):
    await others_work(fed, tmp_path, MEMBER, "logins")
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        theirs = [it async for it in ada.audit() if isinstance(it, Record) and it.actor == f"admin:{MEMBER}"]
    assert len([it for it in theirs if it.action == "login"]) == OFTEN


async def test_beside_a_member_with_a_thousand_watches_others_work(fed, tmp_path):
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        folder = put_job(tmp_path / "watched", {"train.py": adding("gate(task)")}, sites=["site-3"], patience="300s")
        job = (await ada.submit(folder)).id
        await others_work(fed, tmp_path, MEMBER, "watches", job)
        await ada.abort(job)


@pytest.mark.parametrize("deed", ["trickles", "asks"])
async def test_beside_a_lead_who_trickles_uploads_or_asks_without_end_others_work(fed, tmp_path, deed):
    await others_work(fed, tmp_path, LEAD, deed)
