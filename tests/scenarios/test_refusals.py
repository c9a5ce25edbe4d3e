"""What is refused, by whom and in which words: updates, bundles, certificates. The rest goes on."""

import time

import pytest

from convoy.admin.client import connect
from convoy.errors import NotAllowed, NotFound, Refused, RemoteFault
from convoy.provision.kits import provision
from convoy.spec.project import read_project
from convoy.trust import bundle, folders
from convoy.trust.authority import Authority
from tests.federation import Federation
from tests.scenarios.conftest import adding, left_out, overheard, put_job, readyz, took_part
from tests.trust.tampered import WAYS, nine_ways

pytestmark = pytest.mark.scenario

# site-2's trainer goes round the library's own checks: what it answers is seen by nobody before the server
FORGED = """
from convoy.store.arrays import hand_over
from convoy.wire import convoy_pb2 as pb
from convoy.worker import tasks


def forge(task, arrays, weight=1.0, metrics=None):
    here = tasks.session()
    digest, whole = hand_over(here._files.out, arrays) if arrays is not None else ("", b"")
    here.open = None
    answer = pb.Answer(question=task.question, digest=digest, weight=weight, metrics=metrics or {})
    here._send(pb.WorkerUp(answer=answer, wholes={digest: whole} if whole else {}))
"""
DEEDS = {
    "missing tensor": ("forge(task, {'w': w})", "the update lacks the tensor 'b'"),
    "extra tensor": ("forge(task, {'w': w, 'b': b, 'c': b})", "the update has an extra tensor 'c'"),
    "wrong shape": ("forge(task, {'w': w[:-1], 'b': b})", "tensor 'w' of the update has the shape [{less}]"),
    "wrong dtype": ("forge(task, {'w': w.astype('f8'), 'b': b})", "of the update is float64, the model's is float32"),
    "not a number": ("w[3] = np.nan; forge(task, {'w': w, 'b': b})", "'w' of the update is not finite: item [3]"),
    "infinity": ("w[-1] = -np.inf; forge(task, {'w': w, 'b': b})", "item [{last}] is -inf"),
    "negative weight": ("forge(task, {'w': w, 'b': b}, weight=-1.0)", "the weight not negative"),
    "weight not a number": ("forge(task, {'w': w, 'b': b}, weight=float('nan'))", "must be finite"),
    "infinite weight": ("forge(task, {'w': w, 'b': b}, weight=float('inf'))", "must be finite"),
    "metric not a number": ("forge(task, {'w': w, 'b': b}, metrics={'m': float('nan')})", "must be finite"),
    "no model": ("forge(task, None)", "a 'train' question wants them"),
    "far away": ("w[0] += 1000; forge(task, {'w': w, 'b': b})", "is 1000 away from its model: the bound is 10 (L2)"),
}  # fmt: skip
TRAIN = (
    FORGED
    + """
import numpy as np
import convoy

def initial():
    return {"w": np.zeros(SIZE, np.float32), "b": np.zeros(2, np.int64)}

def train(task):
    if task.site != "site-2":
        return convoy.Reply({"w": task.model["w"] + np.float32(0.001), "b": task.model["b"]})
    w, b = task.model["w"].copy(), task.model["b"].copy()
    exec(DEEDS[(task.round - 1) % len(DEEDS)])
"""
)


@pytest.fixture(scope="module", params=[16, 40_000], ids=["inline", "streamed"])
def forged(request, three, tmp_path_factory):
    """A job in whose rounds site-2 does one deed after the other, each twice: its size, its rounds, site-2's log."""
    size, deeds = request.param, [deed for deed, _ in DEEDS.values()]
    train = TRAIN.replace("SIZE", str(size)).replace("DEEDS", repr(deeds))
    spec = {"rounds": 2 * len(deeds), "min_sites": 2, "max_norm": 10.0}
    job = put_job(tmp_path_factory.mktemp("forged"), {"train.py": train}, trainer="train.py:train", with_=spec)
    with three.session() as session:
        detail = session.wait(session.submit(job).id)
        said = [line.text for line in session.logs(detail.job.id, site="site-2")]
    assert detail.job.state == "completed", detail.job.cause
    return size, detail.rounds, said


@pytest.mark.parametrize("deed", DEEDS)
def test_a_wrong_update_is_refused_by_site_or_server_with_its_name_and_the_round_goes_on(deed, forged):
    size, rounds, said = forged
    first, (_, reason) = [*DEEDS].index(deed) + 1, DEEDS[deed]
    for number in (first, first + len(DEEDS)):
        done = rounds[number]
        assert took_part(done) == ["site-1", "site-3"]
        assert reason.format(less=size - 1, last=size - 1) in left_out(done)["site-2"]
        assert left_out(done).keys() == {"site-2"}
        words = f"the server refused the update of task {number}.0", f"there is no answer to task {number}.0"
        assert any(word in line for line in said for word in words)  # the latter where the site refused it itself


def test_the_library_itself_refuses_at_the_trainer_before_anything_travels(session, tmp_path):
    train = adding("if number == 2: w = w.astype('f8')")
    job = put_job(tmp_path / "honest", {"train.py": train}, with_={"rounds": 1, "min_sites": 2})
    detail = session.wait(session.submit(job).id)
    assert "tensor 'w' of the update is float64, the model's is float32" in left_out(detail.rounds[1])["site-2"]
    log = [line.text for line in session.logs(detail.job.id, site="site-2")]
    assert any("tensor 'w' of the update is float64" in it for it in log)
    assert not any("convoy/worker" in it for it in log)  # what Convoy says of an error is no traceback of its own


def test_an_update_of_weight_nothing_takes_part_and_changes_nothing(session, tmp_path):
    train = adding("if number == 2: return convoy.Reply({'w': w + 100}, weight=0)")
    job = put_job(tmp_path / "weightless", {"train.py": train}, with_={"rounds": 1, "min_sites": 3})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    assert took_part(detail.rounds[1]) == ["site-1", "site-2", "site-3"]
    assert detail.rounds[1].metrics == {"number": 2.5}


def test_weights_that_sum_to_nothing_keep_the_model_and_are_told_in_words(session, tmp_path):
    train = adding("return convoy.Reply({'w': w + 100}, weight=0)")
    job = put_job(tmp_path / "weightless", {"train.py": train}, with_={"rounds": 1, "min_sites": 3})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    assert detail.rounds[1].model == detail.rounds[0].model
    assert any("weight" in line.text for line in session.logs(detail.job.id, site="server"))


# ---- bundles


@pytest.fixture
async def admin(three):
    async with connect(three.prod / "ada@example.org", server="localhost") as client:
        yield client


async def test_a_bundle_with_any_byte_changed_is_refused_by_the_server(admin, tmp_path):
    data = await admin.pack(put_job(tmp_path / "job", {"train.py": adding()}))
    for place in range(0, len(data), len(data) // 23):
        broken = bytearray(data)
        broken[place] ^= 1
        with pytest.raises((NotAllowed, RemoteFault)):
            await admin.send(bytes(broken))
    assert (await admin.send(data)).name == "job"


async def test_each_of_nine_ways_of_tampering_is_refused_by_the_server_before_anything_is_unpacked(admin, three):
    claims = {"project": "bench", "submitter": admin.name, "now": time.time()}
    keys = {"key_pem": admin.key_pem, "cert_pem": admin.cert_pem}
    ways = nine_ways(lambda files, **more: bundle.pack(files, **keys, **claims | more))
    assert tuple(ways) == WAYS
    jobs = three.server.kit / "work" / "jobs"
    before = sorted(jobs.iterdir())
    for way, data in ways.items():
        with pytest.raises((NotAllowed, RemoteFault)):
            await admin.send(data)
        assert sorted(jobs.iterdir()) == before, way


async def test_a_bundle_is_signed_for_the_sites_of_its_job_and_for_no_others(admin, three, tmp_path):
    folder = put_job(tmp_path / "job", {"train.py": adding()}, sites=["site-2", "site-1"], with_={"rounds": 1})
    data = await admin.pack(folder)
    root_pem = (three.server.kit / "startup" / "root.crt").read_bytes()
    signed = bundle.verify(data, root_pem=root_pem, project="bench", now=time.time())
    assert signed.sites == ("site-1", "site-2")
    assert (await admin.send(data)).id == signed.id
    other = bundle.pack(
        signed.files,
        project="bench",
        submitter=admin.name,
        key_pem=admin.key_pem,
        cert_pem=admin.cert_pem,
        now=time.time(),
    )
    with pytest.raises(Refused, match="signed for other sites") as refused:
        await admin.send(other)
    assert refused.value.why == "signed: all; named: site-2, site-1"


async def test_a_bundle_that_somebody_of_another_project_signed_is_refused_by_the_server(admin, tmp_path):
    (tmp_path / "foreign").mkdir()
    foreign = Authority.create("bench", tmp_path / "foreign", now=time.time())
    key, cert = foreign.issue("admin", "ada@example.org", now=time.time())
    files = folders.gather(put_job(tmp_path / "job", {"train.py": adding()}))
    data = bundle.pack(files, project="bench", submitter="ada@example.org", key_pem=key, cert_pem=cert, now=time.time())
    with pytest.raises(NotAllowed):
        await admin.send(data)


def test_a_bundle_that_changed_on_the_servers_disk_is_refused_by_every_site(started, tmp_path):
    federation = started(sites=2)
    federation.nodes["site-2"].stop()
    job = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 2}, patience="8s")
    with federation.session() as session:
        waiting = session.submit(job)
        assert waiting.cause == "waiting for sites: 1 of the 2 that it needs are connected"
        kept = federation.server.kit / "work" / "jobs" / waiting.id / "bundle"
        kept.write_bytes(kept.read_bytes().replace(b"w + number", b"w - number"))
        federation.nodes["site-2"].start()
        detail = session.wait(waiting.id)
        assert detail.job.state == "failed"
        said = [member.reason for member in detail.members if member.reason]
        assert said  # the first refusal ends the job: the second may come too late to be told
        assert all("train.py" in reason for reason in said)
        assert "refused the job" in detail.job.cause
        for node in federation.nodes.values():
            assert not any((node.kit / "work" / "jobs").iterdir())


# ---- certificates


def strangers(federation, folder):
    """Return, by what is wrong with it, a key and certificate that site-2 might come with."""
    now, own = time.time(), Authority.load(federation.prod.parent / "state")
    folder.mkdir()
    other = Authority.create(federation.name, folder, now=now)
    return {
        "expired": own.issue("site", "site-2", now=now - 30, days=10 / 86_400),
        "foreign": other.issue("site", "site-2", now=now),
        "admin": own.issue("admin", "ada@example.org", now=now),
        "unknown": own.issue("site", "site-9", now=now),
    }


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("expired", "expired"),
        ("foreign", "is not from the root of bench"),
        ("admin", "only sites of this project may connect here"),
        ("unknown", "site-9 is not a site of this federation"),
    ],
)
def test_a_site_with_a_wrong_certificate_is_refused_and_its_readiness_says_why(kind, reason, one_site, tmp_path):
    node = one_site.nodes["site-2"]
    key, cert = strangers(one_site, tmp_path / "other")[kind]
    (node.kit / "startup" / "node.key").write_bytes(key)
    (node.kit / "startup" / "node.crt").write_bytes(cert)
    with overheard(node) as until:
        until("not connected")
        status, why = readyz(node)
    assert status == 503
    assert reason in why
    with one_site.session() as session:
        assert [site.connected for site in session.sites()] == [True, False]
        detail = session.wait(session.submit(put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1})).id)
        assert detail.job.state == "completed"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("expired", "expired at"), ("foreign", "is not from the root of bench"), ("key", "do not belong together")],
)
def test_a_server_whose_certificate_nobody_would_accept_does_not_start(kind, reason, tmp_path):
    made = Federation(tmp_path / "fed", sites=1)
    own, now = Authority.load(made.prod.parent / "state"), time.time()
    (tmp_path / "other").mkdir()
    issuer = Authority.create("bench", tmp_path / "other", now=now) if kind == "foreign" else own
    life = {"now": now - 30, "days": 10 / 86_400} if kind == "expired" else {"now": now}
    key, cert = issuer.issuing(**life)
    (made.server.kit / "startup" / "issuing.key").write_bytes(key)
    if kind != "key":
        (made.server.kit / "startup" / "issuing.crt").write_bytes(cert)
    with pytest.raises(RuntimeError, match=reason):
        made.server.start()
    assert made.server.process.wait() == (4 if kind == "key" else 2)


def test_a_site_that_has_left_the_federation_is_a_stranger_whatever_it_did_before(started, tmp_path):
    federation = started(sites=2)
    with federation.session() as session:
        job = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 2})
        session.wait(session.submit(job).id)
    federation.server.stop()
    left = [line for line in federation.project_yml.splitlines() if "site-2" not in line]
    project, _ = read_project("\n".join(left), "project.yml")
    prod = provision(project, federation.folder, now=time.time(), offline=True)
    (federation.server.kit / "startup" / "federation.json").write_bytes(
        (prod / "server" / "startup" / "federation.json").read_bytes()
    )
    federation.nodes["site-2"].stop()
    federation.server.start()
    with overheard(federation.nodes["site-2"]) as until, federation.session() as session:
        until("site-2 is not a site of this federation")
        assert [site.name for site in session.sites()] == ["site-1"]
        with pytest.raises(NotFound, match="there is no site 'site-2'"):
            session.enable("site-2")


def test_a_site_whose_server_is_not_there_says_so(one_site):
    one_site.server.stop()
    with overheard(one_site.nodes["site-2"]) as until:
        until("not connected")
        status, why = readyz(one_site.nodes["site-2"])
    one_site.server.start()
    assert status == 503
    assert "Connection refused" in why


@pytest.fixture(scope="module")
def one_site(tmp_path_factory):
    """A federation of which site-1 runs, and site-2 not yet."""
    federation = Federation(tmp_path_factory.mktemp("certs") / "fed", sites=2)
    federation.server.start()
    federation.nodes["site-1"].start()
    yield federation
    federation.down()
