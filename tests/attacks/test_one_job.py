"""One job ends itself, never its node: whatever its bytes bring about, at the server and at its sites."""

import json
import sqlite3
import time

import pytest

from convoy.admin.client import connect
from convoy.trust import bundle
from tests.scenarios.conftest import adding, left_out, put_job, took_part
from tests.site.test_lying_server import lied_to, packed, refused, start

pytestmark = pytest.mark.scenario

SHAPES = """
from convoy.model import blob
from convoy.store import arrays
from convoy.wire import convoy_pb2 as pb
from convoy.worker import tasks


def written(out, *described):
    layout = blob.build([blob.Described(*one) for one in described])
    (out / f"{layout.digest}.safetensors").write_bytes(layout.header + bytes(layout.size - len(layout.header)))
    return layout.digest
"""
ZEROS = "blob.blake3(bytes(16)).hexdigest()"
UPDATES = {
    "another name": f"('other', 'F32', (4,), 16, {ZEROS})",
    "another shape": f"('w', 'F32', (2, 2), 16, {ZEROS})",
    "another type": f"('w', 'I32', (4,), 16, {ZEROS})",
    "a shape that no array can have": "('w', 'F32', (1 << 40, 1 << 40, 0), 0, blob.EMPTY)",
    "nothing at all": "",
}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A federation whose sites filter what leaves."""
    from tests.federation import Federation

    federation = Federation(tmp_path_factory.mktemp("filtered") / "fed", sites=3)
    for node in federation.nodes.values():
        (node.kit / "local" / "policy.yaml").write_text("filters: [{clip: {norm: 1000}}, {noise: {sigma: 0.001}}]\n")
    yield federation.up()
    federation.down()


@pytest.fixture
def live(three, tmp_path):
    """A federation of which no node may die, and in which the next job runs everywhere."""
    before = {node.kit.name: node.pid for node in (three.server, *three.nodes.values())}
    yield three
    for node in (three.server, *three.nodes.values()):
        assert node.process.poll() is None, f"{node.kit.name} died:\n{node.log.read_text()[-3000:]}"
        assert node.pid == before[node.kit.name]
    assert runs_everywhere(three, tmp_path)


def runs_everywhere(federation, folder):
    job = put_job(folder / "after", {"train.py": adding()}, with_={"rounds": 1, "min_sites": len(federation.nodes)})
    with federation.session() as session:
        detail = session.wait(session.submit(job).id)
    return detail.job.state == "completed" and len(took_part(detail.rounds[-1])) == len(federation.nodes)


@pytest.mark.parametrize("described", UPDATES.values(), ids=UPDATES)
def test_an_update_of_another_shape_is_left_out_where_a_filter_is_on(described, live, session, tmp_path):
    train = SHAPES + adding(
        f"""
        if number == 2:
            here = tasks.session()
            digest = written(here._files.out, {described})
            here._send(pb.WorkerUp(answer=pb.Answer(question=task.question, digest=digest, weight=1.0)))
            here.open = None
            return None
        """
    )
    job = put_job(tmp_path / "shapes", {"train.py": train}, with_={"rounds": 2, "min_sites": 2})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    assert all("site-2" in left_out(done) for done in detail.rounds[1:])


def test_a_model_that_no_array_can_be_fails_its_job(live, session, tmp_path):
    flow = (
        SHAPES
        + f"""
async def run(fleet):
    digest = written(fleet.carrier._out, {UPDATES["a shape that no array can have"]})
    fleet.carrier.send(pb.WorkerUp(commit=pb.Commit(round=1, model=digest)))
    await fleet.sites()
    await fleet.sites()
"""
    )
    job = put_job(tmp_path / "shapes", {"train.py": adding(), "flow.py": flow}, workflow="flow.py:run")
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "failed"
    assert "impossible shape" in detail.job.cause


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("round=1 << 31, model=digest", "commits round 2147483648"),
        ("round=4_294_967_295, model=digest", "commits round 4294967295"),
    ],
)
def test_a_number_that_no_database_takes_fails_its_job(field, value, live, session, tmp_path):
    flow = (
        SHAPES
        + f"""
async def run(fleet):
    digest = written(fleet.carrier._out, ('w', 'F32', (4,), 16, {ZEROS}))
    fleet.carrier.send(pb.WorkerUp(commit=pb.Commit({field})))
    await fleet.sites()
    await fleet.sites()
"""
    )
    job = put_job(tmp_path / "numbers", {"train.py": adding(), "flow.py": flow}, workflow="flow.py:run")
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "failed"
    assert value in detail.job.cause


BUNDLES = {
    "no job.yaml": ({"train.py": b"pass\n"}, "no job.yaml"),
    "not UTF-8": ({"job.yaml": b"name: \xff\xfe\n", "train.py": b"pass\n"}, "not UTF-8"),
    "an endless patience": (
        {"job.yaml": b"name: x\ntrainer: train.py\npatience: 1e308\n", "train.py": b"pass\n"},
        "patience",
    ),
    "patience for ever": (
        {"job.yaml": b"name: x\ntrainer: train.py\npatience: .inf\n", "train.py": b"pass\n"},
        "finite number",
    ),
    "as much memory as there is": (
        {"job.yaml": b"name: x\ntrainer: train.py\nresources: {memory: 1e300}\n", "train.py": b"pass\n"},
        "memory",
    ),
    "as many cores as there are": (
        {"job.yaml": b"name: x\ntrainer: train.py\nresources: {cpu: 1e300}\n", "train.py": b"pass\n"},
        "cpu",
    ),
    "a deadline after the end of time": (
        {"job.yaml": b"name: x\ntrainer: train.py\nwith: {deadline: 1e308}\n", "train.py": b"pass\n"},
        "deadline",
    ),
}


@pytest.mark.parametrize(("files", "why"), BUNDLES.values(), ids=BUNDLES)
async def test_a_signed_bundle_that_is_no_job_is_refused_by_the_server(files, why, live):
    async with connect(live.prod / "ada@example.org", server="localhost") as client:
        with pytest.raises(Exception, match=why) as problem:
            await client.send(signed(live, files))
        assert problem.value.exit_code in (1, 4), problem.value


def signed(federation, files):
    kit = federation.prod / "ada@example.org" / "startup"
    return bundle.pack(
        files,
        project="bench",
        submitter="ada@example.org",
        key_pem=(kit / "node.key").read_bytes(),
        cert_pem=(kit / "node.crt").read_bytes(),
        now=time.time(),
    )


@pytest.mark.parametrize("files", [one for one, _ in BUNDLES.values()], ids=BUNDLES)
async def test_and_by_a_site_whose_server_lets_it_through(files, tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        data = packed(federation, files=files)
        root = (federation.prod / "server" / "startup" / "root.crt").read_bytes()
        job = bundle.verify(data, root_pem=root, project="bench", now=time.time()).id
        liar.says.put_nowait(start(data, job=job))
        if b"deadline" not in files.get("job.yaml", b""):  # a workflow's own affair
            assert await refused(liar)
        assert federation.nodes["site-1"].process.poll() is None


def test_a_job_at_which_a_site_fails_is_refused_there_and_quarantined_the_third_time(gated, tmp_path):
    federation, gates = gated()
    first = federation.nodes["site-1"]
    spec = {"with_": {"rounds": 1, "min_sites": 1}, "sites": ["site-1"], "patience": "10m"}

    def reason():
        """Return why site-1 refuses the job, once another job has run there: what it says comes in order."""
        assert runs_everywhere(federation, tmp_path)
        return next(member.reason for member in session.job(job).members if member.site == "site-1")

    with federation.session() as session:
        job = session.submit(put_job(tmp_path / "job", {"train.py": adding("gate(task)")}, **spec)).id
        for _ in range(3):
            gates["site-1"].wait()
            first.kill()
            # bytes on which this site stumbles, and for which no error of ours stands
            (first.kit / "work" / "jobs" / job / "admitted").write_bytes(b"\xff\xfe")
            first.start()
            assert "site-1 failed at this job (UnicodeDecodeError)" in reason()
            first.kill()
            first.start()  # it puts the job away, and the server offers it anew
        assert "quarantined" in reason()
        assert json.loads((first.kit / "work" / "faults.json").read_text()) == {job: 3}
        assert "UnicodeDecodeError" in first.log.read_text()
        session.abort(job)


def test_a_job_whose_records_cannot_be_read_fails_and_the_others_go_on(gated, tmp_path):
    federation, gates = gated()
    with federation.session() as session:
        jobs = {}
        for name in ("bad", "good"):
            folder = put_job(tmp_path / name, {"train.py": adding("gate(task)")}, with_={"rounds": 1, "min_sites": 2})
            jobs[name] = session.submit(folder).id
            if name == "bad":
                for gate in gates.values():
                    gate.wait()
        federation.server.kill()
        with sqlite3.connect(federation.server.kit / "work" / "convoy.sqlite") as ledger:
            ledger.execute("UPDATE jobs SET spec = ? WHERE id = ?", ('{"name": 1}', jobs["bad"]))
        federation.server.start()
        bad = session.job(jobs["bad"]).job
        assert bad.state == "failed"
        assert "the server failed at this job" in bad.cause
        for spec in ("not JSON", "[1]", "[" * 100_000, '{"name": 1}'):  # and so it stays, over restarts
            federation.server.kill()
            with sqlite3.connect(federation.server.kit / "work" / "convoy.sqlite") as ledger:
                ledger.execute("UPDATE jobs SET spec = ? WHERE id = ?", (spec, jobs["bad"]))
            federation.server.start()
            assert session.job(jobs["bad"]).job.cause == bad.cause
        for gate in gates.values():
            gate.wait()
            gate.open()
        good = session.wait(jobs["good"])
        assert good.job.state == "completed", good.job.cause
