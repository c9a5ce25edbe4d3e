"""Each message of a site, of what is its own and what is not: nothing leaks, nothing changes, nothing counts twice."""

import asyncio
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
from safetensors.numpy import load_file

from convoy.admin import connect
from convoy.errors import Refused, Unreachable
from convoy.privacy.packing import SCALES
from convoy.server.sessions import MAX_CONNECTIONS
from convoy.spec.kit import read_kit
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.trust.audit import Record
from convoy.wire import convoy_pb2 as pb
from convoy.wire.dial import Way
from tests.federation import ADMIN, Federation
from tests.scenarios.conftest import GATES, Gate, adding, put_job

pytestmark = pytest.mark.scenario
UNKNOWN, NEVER = "0" * 32, "7.77"
NOBODY = "nobody asked this site for that"
FLOW = """
import numpy as np

async def run(fleet):
    [one async for one in fleet.ask("train", {"w": np.ones(4, np.float32)}, sites=["site-1"])]
"""


class Mallory:
    """Site-2 by hand: its certificate is good, what it says is the test's."""

    def __init__(self, made):
        kit = read_kit(made.prod / "site-2")
        self.way = Way("localhost", kit.fed_port, kit)
        self.barriers = 0

    async def opened(self, **opening):
        """Return a new connection, and the server's verdict on what it is for."""
        stream = await self.way.dial()
        await stream.write(pb.Opening(**opening))
        return stream, await stream.read(pb.Verdict)

    async def offered(self, job, question, digest):
        """Offer an update on a connection of its own; return the verdict, and the bytes that the server wants."""
        stream = await self.way.dial()
        offer = pb.Offer(job=job, answer=pb.Answer(question=question, digest=digest), update=pb.Blob(digest=digest))
        await stream.write(pb.Opening(push=pb.Push()), offer)
        verdict, want = await stream.read(pb.Verdict), await stream.read(pb.Want)
        stream.close()
        return verdict, want

    async def verdict(self, **opening):
        """Return what the server says to a connection's first words."""
        stream, verdict = await self.opened(**opening)
        stream.close()
        return verdict

    @asynccontextmanager
    async def line(self, *jobs, own=UNKNOWN):
        """Hold the line; `own` is a job of its own, for questions whose answers come in order."""
        self.own = own
        self.stream, verdict = await self.opened(hello=pb.Hello(process="mallory", cpu=4, memory=1 << 33, jobs=jobs))
        assert not verdict.fault, verdict
        self.greeting = (await self.until("welcome")).welcome
        try:
            yield self
        finally:
            self.stream.close()

    async def until(self, *kinds):
        """Return the next thing of these kinds that the server says."""
        while (down := await self.stream.read(pb.Down)).WhichOneof("it") not in kinds:
            pass
        return down

    async def stops(self, job):
        """Do as a site does when the server says that a job is over; others may end at the same time."""
        while (await self.until("stop")).stop.job != job:
            pass
        await self.stream.write(pb.Up(stopped=pb.JobStopped(job=job)))

    async def says(self, up):
        """Say something; return all that the server says to it, by kind."""
        self.barriers += 1
        never = f"8.{self.barriers}"
        answer = pb.Answer(question=never, digest="0" * 64)
        await self.stream.write(up, pb.Up(offer=pb.Offer(job=self.own, answer=answer, update=pb.Blob(digest="0" * 64))))
        heard = []
        while (down := await self.stream.read(pb.Down)).reject.question != never:
            if down.WhichOneof("it") not in BROADCAST:
                heard.append(down)
        return heard


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A server and site-1; site-2 is Mallory's."""
    federation = Federation(tmp_path_factory.mktemp("wire") / "fed", settings=GATES)
    federation.gate = Gate(federation.nodes["site-1"].kit / "local")
    federation.server.start()
    federation.nodes["site-1"].start()
    yield federation
    federation.down()


@pytest.fixture(scope="module")
def jobs(made, tmp_path_factory):
    """A job that site-2 is no member of, and one of which site-1 alone has a task; it stands at the gate of both."""
    folder = tmp_path_factory.mktemp("jobs")
    train = {"train.py": adding("gate(task)")}
    with made.session() as session:
        foreign = session.submit(put_job(folder / "foreign", train, with_={"rounds": 1}, sites=["site-1"])).id
        made.gate.wait()
        theirs = session.submit(put_job(folder / "theirs", train | {"flow.py": FLOW}, workflow="flow.py:run")).id
        made.gate.wait()
        yield {"foreign": foreign, "theirs": theirs}
        for job in (foreign, theirs):
            with suppress(Refused):  # whoever opened the gate let them end
                session.abort(job)


SAID = {  # by what a site may say: about a job and a question
    "ready": lambda job, question: {"job": job},
    "waits": lambda job, question: {"job": job, "why": "its pod is new"},
    "refused": lambda job, question: {"job": job, "reason": "no"},
    "offer": lambda job, question: {
        "job": job,
        "answer": pb.Answer(question=question, digest="0" * 64, weight=1.0),
        "update": pb.Blob(digest="0" * 64, size=9),
    },
    "failed": lambda job, question: {"job": job, "question": question, "error": "no", "traceback": "no"},
    "progress": lambda job, question: {"job": job},
    "log": lambda job, question: {"job": job, "offset": 0, "data": b"2026-01-01T00:00:00.000Z mallory was here\n"},
    "points": lambda job, question: {
        "job": job,
        "lines": b'{"n":0,"at":1.000,"round":1,"values":{"mallory":1.0}}\n',
    },
    "stopped": lambda job, question: {"job": job},
}
OF_NO_JOB = {"ping", "request"}  # the second is about the key of whoever asks
BROADCAST = {"ping", "checkpoint", "federation", "renew", "committed"}  # what is said unasked


def test_every_message_that_names_a_job_is_in_this_matrix():
    assert {field.name for field in pb.Up.DESCRIPTOR.fields} == {*SAID, *OF_NO_JOB}
    assert {field.name for field in pb.Opening.DESCRIPTOR.fields} == {"hello", "pull", "push", "artifacts"}


def seen(made, job):
    """Return all that people see of a job but how far it is."""
    with made.session() as session:
        detail = session.job(job)
        lines = [line for line in session.logs(job) if line.site == "site-2"]
        points = list(session.points(job))
    members = [it for it in detail.members if it.site != "site-2"]
    return detail.job, detail.rounds, detail.traceback, members, lines, points


async def test_a_site_neither_learns_nor_changes_what_is_not_its_own(made, jobs):
    questions = {"foreign": (jobs["foreign"], "1.0"), "theirs": (jobs["theirs"], "1.0"), "unknown": (UNKNOWN, "1.0")}
    before = {name: await asyncio.to_thread(seen, made, job) for name, job in jobs.items()}
    mallory = Mallory(made)
    async with mallory.line(own=jobs["theirs"]):
        for kind, of in SAID.items():
            for name, (job, question) in questions.items():
                for which in (question, NEVER):
                    if name == "theirs" and kind not in ("offer", "failed"):
                        continue  # it is a member of that job: of its own part it may speak
                    heard = await mallory.says(pb.Up(**{kind: of(job, which)}))
                    stop = pb.Stop(job=UNKNOWN, reason="the server does not know this job")
                    reject = pb.Reject(job=job, question=which, reason=NOBODY)
                    wanted = {
                        ("offer", "unknown"): [pb.Down(stop=stop)],
                        ("offer", "foreign"): [pb.Down(reject=reject)],
                        ("offer", "theirs"): [pb.Down(reject=reject)],
                        ("failed", "foreign"): [pb.Down(reject=reject)],
                        ("failed", "theirs"): [pb.Down(reject=reject)],
                    }.get((kind, name), [])
                    assert [it for it in heard if it.WhichOneof("it") != "start"] == wanted, (kind, name, which)
    assert {name: await asyncio.to_thread(seen, made, job) for name, job in jobs.items()} == before


async def test_who_says_that_it_holds_a_job_is_told_nothing_of_it(made, jobs):
    mallory = Mallory(made)
    verdict = await mallory.verdict(hello=pb.Hello(jobs=["../../etc"]))
    assert verdict.fault == pb.Verdict.FAULTY
    async with mallory.line(jobs["foreign"], UNKNOWN, own=jobs["theirs"]):
        assert [held.job for held in mallory.greeting.jobs] in ([], [jobs["theirs"]])
        assert all(down.WhichOneof("it") in ("start", "task") for down in await mallory.says(pb.Up(ping=pb.Ping())))


async def test_artifacts_are_taken_of_no_job_that_does_not_wait_for_them(made, jobs):
    mallory = Mallory(made)
    async with mallory.line(own=jobs["theirs"]):
        for job in (*jobs.values(), UNKNOWN):
            verdict = await mallory.verdict(artifacts=pb.ArtifactsHead(job=job, digest="0" * 64, size=1))
            assert (verdict.fault, "does not wait for artifacts" in verdict.reason) == (pb.Verdict.NOT_ALLOWED, True)


async def test_a_site_pulls_and_pushes_what_it_was_asked_for_and_nothing_else(made, jobs):
    files = made.prod / "server" / "work" / "jobs"
    mallory = Mallory(made)
    async with mallory.line(own=jobs["theirs"]):
        await mallory.until("start")  # of the job that it is a member of
        model = {name: next((files / job / "blobs").glob("*.safetensors")).stem for name, job in jobs.items()}
        bundle = {name: digest_of(made, job) for name, job in jobs.items()}
        ranges = [pb.Range(start=0, end=8)]
        asked = [
            *((job, digest) for job in (jobs["foreign"], UNKNOWN, "", "../..") for digest in all_of(model, bundle)),
            *(
                (jobs["theirs"], digest)
                for digest in ("", "../bundle", model["theirs"], model["foreign"], bundle["foreign"])
            ),
        ]
        for job, digest in asked:
            verdict = await mallory.verdict(pull=pb.PullRequest(job=job, digest=digest, ranges=ranges))
            assert verdict.fault == pb.Verdict.NOT_ALLOWED, (job, digest)
        for job, question in ((jobs["foreign"], "1.0"), (jobs["theirs"], "1.0"), (UNKNOWN, "1.0")):
            verdict, want = await mallory.offered(job, question, model["foreign"])
            assert (verdict.fault, len(want.ranges)) == (pb.Verdict.NONE, 0), (job, question)
        verdict, _ = await mallory.offered("../..", "x", model["foreign"])
        assert verdict is None
        stream, verdict = await mallory.opened(
            pull=pb.PullRequest(job=jobs["theirs"], digest=bundle["theirs"], ranges=ranges)
        )
        assert not verdict.fault
        assert await stream._exactly(8) == b"CONVOYB1"
        stream.close()
        for many in ([pb.Range(start=8, end=9), pb.Range(start=0, end=1)], [pb.Range()] * 40_000):
            verdict = await mallory.verdict(
                pull=pb.PullRequest(job=jobs["theirs"], digest=bundle["theirs"], ranges=many)
            )
            assert verdict.fault == pb.Verdict.NOT_ALLOWED


def all_of(model, bundle):
    return [model["foreign"], model["theirs"], bundle["foreign"], bundle["theirs"], "", "../bundle"]


def digest_of(made, job):
    from blake3 import blake3

    return blake3((made.prod / "server" / "work" / "jobs" / job / "bundle").read_bytes()).hexdigest()


NONSENSE = {
    "nothing": pb.Up(),
    "a path for a job": pb.Up(progress=pb.Progress(job="../../../etc")),
    "a digit that is none": pb.Up(offer=pb.Offer(job=UNKNOWN, answer=pb.Answer(question="\N{SUPERSCRIPT TWO}.0"))),
    "a question without end": pb.Up(failed=pb.TaskFailed(job=UNKNOWN, question="9" * 100_000)),
    "no request": pb.Up(request=pb.CertificateRequest(pem=b"-----BEGIN CERTIFICATE REQUEST-----")),
}


@pytest.mark.parametrize("up", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_ends_the_line_and_nothing_else(up, made, jobs):
    mallory = Mallory(made)
    async with mallory.line(own=jobs["theirs"]):
        await mallory.stream.write(up)
        while await mallory.stream.read(pb.Down) is not None:
            pass
    assert "a bug" not in made.server.log.read_text()
    async with mallory.line(own=jobs["theirs"]):  # and it may come back
        pass


@pytest.mark.parametrize(
    "hello",
    [{"cpu": float("nan")}, {"gpu": float("inf")}, {"cpu": -1.0}, {"jobs": ["x"] * 10_001}],
    ids=["nan", "inf", "negative", "jobs"],
)
async def test_a_site_that_offers_what_is_no_number_is_refused(hello, made):
    verdict = await Mallory(made).verdict(hello=pb.Hello(**hello))
    assert verdict.fault == pb.Verdict.FAULTY
    async with connect(made.prod / ADMIN, server="localhost") as convoy:  # NaN would have broken it for everybody
        assert len(await convoy.sites()) == 2


async def test_a_site_has_a_bounded_number_of_connections(made):
    mallory = Mallory(made)
    opened = [await mallory.opened(pull=pb.PullRequest(job=UNKNOWN)) for _ in range(3)]
    assert all(verdict.fault == pb.Verdict.NOT_ALLOWED for _, verdict in opened)
    idle = [await mallory.way.dial() for _ in range(MAX_CONNECTIONS)]
    with pytest.raises(Unreachable):  # noqa: PT012 - the server hangs up after its own handshake
        one_more = await mallory.way.dial()
        idle.append(one_more)
        await one_more.write(pb.Opening(pull=pb.PullRequest(job=UNKNOWN)))
        if await one_more.read(pb.Verdict) is None:
            raise Unreachable("it hung up")
    for stream in (*idle, *(stream for stream, _ in opened)):
        stream.close()
    async with Mallory(made).line():  # once they are gone
        pass


async def test_an_update_that_is_sent_again_counts_once_and_another_body_is_refused(made, tmp_path):
    folder = put_job(tmp_path / "twice", {"train.py": adding("gate(task)")}, with_={"rounds": 1, "min_sites": 2})
    mallory = Mallory(made)
    async with connect(made.prod / ADMIN, server="localhost") as convoy, mallory.line():
        for earlier in await convoy.jobs():
            if earlier.state == "running":  # it stands at the same gate, and would go through in this job's place
                await convoy.abort(earlier.id)
        job = mallory.own = (await convoy.submit(folder)).id
        await mallory.until("start")
        await mallory.stream.write(pb.Up(ready=pb.JobReady(job=job)))
        task = (await mallory.until("task")).task
        await asyncio.to_thread(made.gate.wait)
        first, other = (offered(tmp_path / str(value), task, {"w": np.full(4, value, "f4")}) for value in (2.0, 50.0))
        receipts = [await mallory.says(pb.Up(offer=first)) for _ in range(3)]
        assert (
            receipts
            == [[pb.Down(receipt=pb.Receipt(job=job, question=task.question.id, digest=first.update.digest))]] * 3
        )
        (refused,) = await mallory.says(pb.Up(offer=other))
        assert refused.reject.reason == "this task was answered before, with another body"
        assert await mallory.says(pb.Up(offer=first)) == receipts[0]
        await asyncio.to_thread(made.gate.open)
        await mallory.stops(job)
        assert [seen.job.state async for seen in convoy.watch(job)][-1] == "completed"
        last = (await convoy.job(job)).rounds[-1]
        assert [(share.site, share.weight) for share in last.took_part] == [("site-1", 1), ("site-2", 3)]
        files = await convoy.fetch(job, tmp_path / "out")
        (model,) = [file for file in files if file.suffix == ".safetensors"]
        np.testing.assert_allclose(load_file(model)["w"], (1 * 1 + 3 * 2) / 4)
        told = [
            it
            async for it in convoy.audit()
            if isinstance(it, Record) and it.object == f"task:{job}/{task.question.id}"
        ]
        assert [it.outcome for it in told] == ["refused: a different body for a task that was answered before"]


def offered(folder, task, model):
    """Return an offer of a whole update."""
    folder.mkdir()
    blobs = BlobFolder(folder)
    digest = arrays.save(blobs, "test", model)
    whole = blobs.path(digest).read_bytes()
    answer = pb.Answer(question=task.question.id, digest=digest, weight=3.0)
    return pb.Offer(job=task.job, answer=answer, update=pb.Blob(digest=digest, size=len(whole), whole=whole))


PACKED = {  # what a malicious site may say of an update of 8 bits: its packing, its arrays, why it is refused
    "the model's own layout": ("I8", {"w": np.ones(4, "f4")}, "lacks the tensor 'convoy.scales'"),
    "floats": ("I8", {"w": np.ones(4, "f4"), SCALES: np.ones(1, "f4")}, "is float32, the model's is int8"),
    "many scales": ("I8", {"w": np.ones(4, "i1"), SCALES: np.ones(9, "f4")}, "has the shape [9]"),
    "the other bits": ("F16", {"w": np.ones(4, "i1"), SCALES: np.ones(1, "f4")}, "is int8, the model's is float16"),
    "a scale without end": ("I8", {"w": np.ones(4, "i1"), SCALES: np.full(1, np.inf, "f4")}, "is not finite"),
    "no packing": ("zip", {"w": np.ones(4, "f4")}, "packed in a way that nobody knows"),
}


@pytest.mark.parametrize(("packing", "model", "why"), PACKED.values(), ids=PACKED.keys())
async def test_an_update_that_is_packed_wrongly_is_left_out_and_the_round_goes_on(made, tmp_path, packing, model, why):
    folder = put_job(tmp_path / "packed", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 1})
    mallory = Mallory(made)
    async with connect(made.prod / ADMIN, server="localhost") as convoy, mallory.line():
        job = mallory.own = (await convoy.submit(folder)).id
        await mallory.until("start")
        await mallory.stream.write(pb.Up(ready=pb.JobReady(job=job)))
        task = (await mallory.until("task")).task
        offer = offered(tmp_path / "bad", task, model)
        offer.answer.packed = packing
        (refused,) = await mallory.says(pb.Up(offer=offer))
        assert why in refused.reject.reason
        await mallory.stops(job)
        assert [seen.job.state async for seen in convoy.watch(job)][-1] == "completed"
        assert [share.site for share in (await convoy.job(job)).rounds[-1].took_part] == ["site-1"]
