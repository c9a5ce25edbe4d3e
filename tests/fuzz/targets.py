"""What is fuzzed: each reader of foreign bytes, as a function that ends in a value or in an error of ours."""

import asyncio
import base64
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from convoy.errors import Bug, ConvoyError, Unreachable

CORPUS = Path(__file__).parent / "corpus"  # what once broke a reader
REACHED = Path(__file__).parent / "reached"  # inputs that long runs came to, each to code of its own
NOW = 1_800_000_000.0
PROJECT, ADA, SITE, JOB = "p", "ada@example.org", "site-1", "ab" * 16


@dataclass(frozen=True, slots=True)
class Target:
    """A reader; `seeds` are inputs that it takes, to begin with; `once` is what all its inputs share."""

    read: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


def tried(target: Target, data: bytes) -> None:
    """Read an input; whatever is neither taken nor refused in words comes out. A `Bug` is no refusal."""
    try:
        target.read(data)
    except Bug:
        raise
    except ConvoyError as problem:
        str(problem).encode(errors="surrogatepass")


def reached(name: str) -> Iterator[bytes]:
    """Yield what long runs came to in a reader, and what once broke it."""
    yield from (file.read_bytes() for file in (CORPUS / name).glob("*"))
    if (REACHED / f"{name}.zip").exists():
        with zipfile.ZipFile(REACHED / f"{name}.zip") as packed:
            yield from map(packed.read, packed.namelist())


@cache
def world():
    """A folder, a root, and the keys and certificates of an admin and a site; the root's key is always the same.

    So an input of another day, with certificates in it, is still one of this project.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    from convoy.trust import authority

    folder, key = Path(tempfile.mkdtemp(prefix="fuzz-")), ec.derive_private_key(2**200 + 1, ec.SECP256R1())
    cert = authority._root_builder(PROJECT, key, NOW).sign(key, hashes.SHA256())
    root = authority.Authority(PROJECT, key, cert)
    admin = root.issue("admin", ADA, now=NOW)
    site = root.issue("site", SITE, now=NOW)
    return folder, root, admin, site


def text(data: bytes) -> str:
    return data.decode(errors="replace")


# ---- models -----------------------------------------------------------------------------------------------------
def header(data: bytes) -> None:
    from convoy.model import bare, blob

    whole = len(data).to_bytes(8, "little") + data
    for parse in (blob.parse, blob.parse_foreign):
        with suppress(ConvoyError):
            parse(whole[: blob.header_length(whole)])
    with suppress(ConvoyError):
        bare.unpack(whole)


def headers():
    from convoy.model import blob
    from convoy.model.blob import EMPTY, Described

    for described in (
        [],
        [Described("w", "F32", (2, 3), 24, "0" * 64), Described("b", "BF16", (0,), 0, EMPTY)],
        [Described(f"layer.{n}", "I8", (n,), n, "1" * 64) for n in range(1, 9)],
    ):
        yield blob.build(described).header[8:]


# ---- bundles ----------------------------------------------------------------------------------------------------
FILES = {"job.yaml": b"name: x\ntrainer: train.py\n", "train.py": b"pass\n"}


def bundle(data: bytes) -> None:
    from convoy.trust import bundle as bundles

    _, root, _, _ = world()
    bundles.verify(data, root_pem=root.pem, project=PROJECT, now=NOW)


def packed():
    from convoy.trust import bundle as bundles

    _, _, (key, cert), _ = world()
    return bundles.pack(FILES, project=PROJECT, submitter=ADA, key_pem=key, cert_pem=cert, now=NOW)


def manifest(data: bytes) -> None:
    """A list of files that its submitter really signed."""
    from convoy.trust import authority, keys
    from convoy.trust import bundle as bundles

    _, root, (key, cert), _ = world()
    signature = keys.sign(keys.from_pem(key), bundles._PREFIX + data)
    envelope = bundles._envelope(data, signature, authority.read_chain(cert))
    head = bundles.MAGIC + len(envelope).to_bytes(4, "little")
    made = bundles.verify(head + envelope + b"".join(FILES.values()), root_pem=root.pem, project=PROJECT, now=NOW)
    bundles.unpack(made, world()[0] / "unpacked" / "code")


def manifests():
    from convoy.trust import bundle as bundles

    yield bundles._opened(bundles._split(memoryview(packed()))[0])[0]


# ---- what people write ------------------------------------------------------------------------------------------
def job(data: bytes) -> None:
    """A job.yaml, and behind a form feed its train.py."""
    from convoy.flows import check
    from convoy.spec.job import Job, read_job_document

    said, _, code = data.partition(b"\f")
    spec, document = read_job_document(text(said), "job.yaml")
    Job.from_json(spec.to_json())
    check.check_job(spec, document, {"job.yaml": said, "train.py": code}, [SITE], {SITE: (4.0, 1 << 30, 0.0)})


def project(data: bytes) -> None:
    from convoy.spec.project import read_project, with_site

    read_project(text(data), "project.yml")
    with_site(text(data), "site-9", "org", file="project.yml")


LOCAL = ("policy", "approved", "node", "convoy")


def local(data: bytes) -> None:
    """A file of a kit; the first byte says which."""
    from convoy.spec.approvals import read_approvals, written
    from convoy.spec.kit import Kit, read_kit
    from convoy.spec.policy import read_policy
    from convoy.spec.settings import read_settings

    folder = world()[0]
    for part in ("local", "startup"):
        (folder / part).mkdir(exist_ok=True)
    which = LOCAL[data[0] % len(LOCAL)] if data else "policy"
    (folder / ("startup" if which == "convoy" else "local") / f"{which}.yaml").write_bytes(data[1:])
    kit = Kit(folder, PROJECT, "site", SITE, "org", "localhost", 1, 2, folder / "work")
    match which:
        case "policy":
            read_policy(folder / "local" / "policy.yaml")
        case "approved":
            written(read_approvals(folder / "local" / "approved.yaml"))
        case "node":
            read_settings(kit)
        case _:
            read_kit(folder)


def locals_():
    from convoy.provision import sample

    yield b"\0" + sample.POLICY.encode()
    yield b"\0run: [{org: own}]\nlimits: {cpu: 1, memory: 1Gi}\nfilters: [{clip: {norm: 1}}, {exclude: [a*]}]\n"
    yield b'\1- {digest: "' + b"0" * 64 + b'", when: "x", note: "y"}\n'
    yield b"\2health_port: 1\ncpu: 2\nmemory: 1Gi\ndata: {a: b}\nenv: {A: b}\nlog_format: json\n"
    yield b"\2" + sample.node("site").encode()
    yield b"\3project: p\nkind: site\nname: s\norg: o\nserver: {host: h, fed_port: 1, admin_port: 2}\n"


# ---- who somebody is --------------------------------------------------------------------------------------------
def pem(kind: str, der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return f"-----BEGIN {kind}-----\n".encode() + body + f"-----END {kind}-----\n".encode()


def request(data: bytes) -> None:
    """PEM, or the DER that is to be in it."""
    from convoy.trust import enrolment

    said = data if data.startswith(b"-----") else pem("CERTIFICATE REQUEST", data)
    enrolment.key_id(enrolment.requested_key(said))


def requests():
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from convoy.trust import enrolment, keys

    made = enrolment.request(keys.make())
    yield made
    yield x509.load_pem_x509_csr(made).public_bytes(Encoding.DER)


def certificate(data: bytes) -> None:
    from convoy.trust import peers

    said = data if data.startswith(b"-----") else pem("CERTIFICATE", data)
    peers.identity_of(said, world()[1].pem, now=NOW)


def certificates():
    from cryptography.hazmat.primitives.serialization import Encoding

    from convoy.trust import authority

    _, root, (_, admin), (_, site) = world()
    for one in (admin, site, root.pem):
        yield one
        yield authority.read_certificate(one).public_bytes(Encoding.DER)


def login(data: bytes) -> None:
    """Nonce, signature and certificate, each on its line."""
    from convoy.admin.logins import Logins
    from convoy.trust import enrolment
    from convoy.trust import login as proofs
    from convoy.trust.federation import Federation, Membership, Participant

    nonce, _, rest = text(data).partition("\n")
    signature, _, cert = rest.partition("\n")
    logins = Logins(Membership(Federation(PROJECT, 1, {ADA: Participant("admin", "org", "lead")}), world()[1].pem))
    for read in (
        lambda: logins.log_in(nonce, cert, signature),
        lambda: logins.bearer(nonce),
        lambda: enrolment.read_token(nonce),
        lambda: enrolment.token_hash(nonce, project=PROJECT, kind="site", name=nonce),
        lambda: proofs.check(
            {"certificate": cert, "signature": signature},
            root_pem=logins.membership.root_pem,
            project=PROJECT,
            nonce=nonce,
            now=NOW,
        ),
    ):
        with suppress(ConvoyError):
            read()


def logins_():
    from convoy.admin.logins import Logins
    from convoy.trust import enrolment
    from convoy.trust import login as logins
    from convoy.trust.federation import Federation, Membership

    _, root, (key, cert), _ = world()
    nonce = Logins(Membership(Federation(PROJECT, 1, {}), root.pem)).nonce()
    said = logins.answer(key, cert, PROJECT, nonce)
    yield f"{nonce}\n{said['signature']}\n{said['certificate']}".encode()
    yield enrolment.make_token().encode()
    yield b"Bearer " + nonce.encode()


def federation(data: bytes) -> None:
    from convoy.trust import enrolment
    from convoy.trust import federation as federations

    for read in (lambda: federations.read(data, world()[1].pem), lambda: enrolment.invites_from_json(data)):
        with suppress(ConvoyError):
            read()


def federations_():
    from convoy.trust import enrolment
    from convoy.trust import federation as federations
    from convoy.trust.federation import Federation, Participant

    people = {ADA: Participant("admin", "org", "lead"), SITE: Participant("site", "org")}
    yield federations.sign(Federation(PROJECT, 3, people), world()[1].key)
    yield federations.sign(Federation(PROJECT, 4, people, (world()[1].pem.decode(),)), world()[1].key)
    known = enrolment.invite(enrolment.make_token(), project=PROJECT, kind="site", name=SITE, now=NOW)
    yield enrolment.invites_to_json([known])


def entry(data: bytes) -> None:
    """Lines of an audit trail, verified one after the other."""
    from convoy.trust import audit

    verifier = audit.Verifier(PROJECT, world()[1].pem)
    for line in data.split(b"\n")[:20]:
        verifier.take(audit.read(line, where="a line"))
    verifier.end()


def entries():
    from convoy.trust import audit, keys

    _, root, _, _ = world()
    key, cert = root.issue("server", "server", now=NOW)
    lines, last = [], None
    for at in range(3):
        last = audit.following(
            last, project=PROJECT, at=at, actor="server", action="start", object="server", outcome="done"
        )
        lines.append(audit.line(last))
    signed = audit.sign(last, project=PROJECT, key=keys.from_pem(key), certificate=cert.decode(), at=int(NOW * 1000))
    yield "\n".join([*lines, audit.line(signed)]).encode()


# ---- messages ---------------------------------------------------------------------------------------------------
def up(data: bytes) -> None:
    """What a site says to a server that has a job for it; behind a byte of 255 or 254, on a connection of its own."""
    from convoy.wire import convoy_pb2 as pb
    from convoy.wire import frames

    kind = {b"\xff": pb.Opening, b"\xfe": pb.Offer}.get(data[:1], pb.Up)
    asyncio.run(_up(frames.parsed(kind, data if kind is pb.Up else data[1:])))


async def _up(said) -> None:
    from tests.fuzz.nodes import Idle, server

    sessions, line, standing = server()
    with suppress(Unreachable):
        if said.DESCRIPTOR.name == "Opening":
            sessions._begun(standing, line.stream, said).close()
        elif said.DESCRIPTOR.name == "Offer":
            arrival = await sessions.transfers.begin(standing.peer.name, said, line.stream)
            if arrival is not None:
                arrival.receiver.close()
        else:
            longer = sessions._said(line, Idle(), standing, said)
            if longer is not None:
                await longer


LINES = (
    b'{"n":0,"at":1.000,"round":1,"values":{"loss":0.5}}\n'
    b'{"n":2,"at":2.250,"round":1,"step":7,"phase":"train","values":{"loss":1e-05,"a \\"b":-3}}\n'
)


def points_(data: bytes) -> None:
    """Lines of live metrics, as a server gets them from a site and people from the server."""
    from convoy.control import points
    from convoy.store.points import read

    if points.are_lines(data):
        for point in read(data):
            assert points.are_lines(points.write(point))
        points.thinned(data.splitlines(keepends=True))


def ups():
    from convoy.wire import convoy_pb2 as pb
    from tests.fuzz.nodes import workspace

    made, model = workspace()
    blob = pb.Blob(digest=model, whole=made.job(JOB).blobs.path(model).read_bytes())
    answer = pb.Answer(
        question="1.0", digest=model, weight=1.0, metrics={"loss": 0.5}, value='{"n": [1]}', state_bytes=9
    )
    for one in (
        pb.Up(ready=pb.JobReady(job=JOB)),
        pb.Up(refused=pb.JobRefused(job=JOB, reason="no")),
        pb.Up(offer=pb.Offer(job=JOB, update=blob, answer=answer)),
        pb.Up(failed=pb.TaskFailed(job=JOB, question="1.0", error="no", traceback="Traceback")),
        pb.Up(progress=pb.Progress(job=JOB)),
        pb.Up(log=pb.Log(job=JOB, offset=0, data=b"a line\n")),
        pb.Up(points=pb.PointLines(job=JOB, lines=LINES)),
        pb.Up(stopped=pb.JobStopped(job=JOB)),
    ):
        yield one.SerializeToString()
    for first in (
        pb.Opening(hello=pb.Hello(version="1", cpu=1.0, memory=1, gpu=0.0, jobs=[JOB], process="p")),
        pb.Opening(pull=pb.PullRequest(job=JOB, digest=model, ranges=[pb.Range(start=0, end=9)])),
        pb.Opening(push=pb.Push()),
        pb.Opening(artifacts=pb.ArtifactsHead(job=JOB, digest="0" * 64, size=9)),
    ):
        yield b"\xff" + first.SerializeToString()
    layout = made.job(JOB).blobs.read_header(model)
    header = pb.Blob(digest=model, size=layout.size, header=layout.header)
    yield b"\xfe" + pb.Offer(job=JOB, update=header, answer=answer).SerializeToString()


def artifacts(data: bytes) -> None:
    """The package of what a trainer left, as a server gets it from a site."""
    from convoy.wire import package

    package.files_of(io.BytesIO(data), len(data), SITE)


def packages():
    from convoy.wire import package

    yield package.listing([])
    yield package.listing([("a/b.txt", 3), ("c", 0)]) + b"abc"


def down(data: bytes) -> None:
    """What a server says to a site."""
    from convoy.wire import convoy_pb2 as pb
    from convoy.wire import frames

    asyncio.run(_down(frames.parsed(pb.Down, data)))


async def _down(said) -> None:
    from tests.fuzz.nodes import site

    if said.WhichOneof("it") != "ping":  # that one the line keeps to itself
        await site()._said(said)


def asked(**more):
    """A question with a value in every field."""
    from convoy.wire import convoy_pb2 as pb

    said = {"id": "1.0", "kind": "train", "round": 1, "rounds": 2, "model": "0" * 64, "settings": '{"a": 1.0}'}
    said |= {"at_least": 1, "sample": 1, "sites": [SITE], "deadline_s": 1.0, "max_norm": 2.0, "quorum": 1}
    said |= {"grace_s": 1.0, "by_arrival": True, "outlives": True, "has_reply": True, "reply_bytes": 9}
    slots = [pb.Slot(name="n", dtype="F32", shape=[-1, 2])]
    return pb.Question(**{**said, "reply": slots, "cohort": [SITE], **more})


def downs():
    from convoy.wire import convoy_pb2 as pb

    blob = pb.Blob(digest="0" * 64, size=8, whole=b"\x02\0\0\0\0\0\0\0{}")
    for one in (
        pb.Down(welcome=pb.Welcome(version="1", jobs=[pb.Held(job=JOB, log_offset=3, points=7)])),
        pb.Down(start=pb.Start(job=JOB, bundle="0" * 64, size=5, whole=b"12345", log_offset=1)),
        pb.Down(task=pb.Task(job=JOB, question=asked(), model=blob, after="1.0")),
        pb.Down(stop=pb.Stop(job=JOB, reason="over")),
        pb.Down(again=pb.Again(job=JOB, question="1.0")),
        pb.Down(receipt=pb.Receipt(job=JOB, question="1.0", digest="0" * 64)),
        pb.Down(reject=pb.Reject(job=JOB, question="1.0", reason="no")),
        pb.Down(committed=pb.Committed(job=JOB, round=1, folded=["1.0"], after="1.0")),
        pb.Down(cancel=pb.Cancel(job=JOB, question="1.0")),
        *(pb.Down(federation=pb.Federation(json=signed)) for signed in federations_()),
        pb.Down(certificate=pb.Certificate(pem=world()[3][1])),
        pb.Down(certificate=pb.Certificate(pem=world()[2][1])),
        pb.Down(checkpoint=pb.Checkpoint(seq=1, hash="0" * 64, at=2, certificate="c", signature="s")),
    ):
        yield one.SerializeToString()


def pod(data: bytes) -> None:
    """What the pod of a worker sends to its node: messages, and bytes behind some of them."""
    from tests.fuzz.nodes import from_a_pod

    asyncio.run(from_a_pod(data))


def pods_():
    from convoy.wire import convoy_pb2 as pb
    from convoy.wire import pods_pb2
    from convoy.wire.frames import pack
    from tests.fuzz.nodes import workspace

    made, model = workspace()
    blobs = made.job(JOB).blobs
    whole, header = blobs.path(model).read_bytes(), blobs.read_header(model).header
    known = pods_pb2.PodUp(blob=pb.Blob(digest=model, size=len(whole), header=header))
    answer = pb.WorkerUp(answer=pb.Answer(question="1.0", digest=model, weight=1.0, metrics={"loss": 1.0}))
    said = (
        pods_pb2.PodUp(life=pods_pb2.Life(cpu_s=1.0)),
        pods_pb2.PodUp(output=b"a line\n"),
        pods_pb2.PodUp(blob=pb.Blob(digest=model, size=len(whole), whole=whole)),
        pods_pb2.PodUp(word=answer),
        pods_pb2.PodUp(artifact=pods_pb2.Piece(path="a/model.bin", data=b"x", last=True)),
        pods_pb2.PodUp(ended=pods_pb2.Ended(how="exit code 1")),
    )
    yield b"".join(map(pack, said))
    yield pack(known) + whole[len(header) :] + pack(said[3])


def trees(data: bytes) -> None:
    """A site's trees: two bytes for each number of each array; those that pass the check route rows to leaves."""
    import numpy as np

    from convoy.model import trees as _trees

    numbers = np.frombuffer(data[: len(data) // 16 * 16], "<i2").reshape(-1, 8).astype(np.float32)
    one = _trees.Trees(
        sizes=numbers[:1, 0].astype(np.int32),
        group=numbers[:1, 1].astype(np.int32),
        feature=numbers[:, 2].astype(np.int32),
        threshold=numbers[:, 3],
        left=numbers[:, 4].astype(np.int32),
        right=numbers[:, 5].astype(np.int32),
        missing_left=numbers[:, 6] > 0,
        value=numbers[:, 7:],
    )
    _trees.check(one, kind="multi:softprob", features=3, outputs=3)
    assert (one.feature[_trees.ends(one, np.float32([[0, np.nan, 1]]))] == -1).all()


def trees_():
    import numpy as np

    rows = [[3, 1, 2, 5, 1, 2, 1, 0], [0, 0, -1, 0, -1, -1, 0, 7], [0, 0, -1, 0, -1, -1, 0, -7]]
    yield np.array(rows, "<i2").tobytes()
    yield np.array([[1, *rows[1][1:]]], "<i2").tobytes()


def flow(data: bytes) -> None:
    """What a job's workflow says to its server."""
    from convoy.wire import convoy_pb2 as pb
    from convoy.wire import frames
    from tests.fuzz.nodes import flows

    asyncio.run(flows()(frames.parsed(pb.WorkerUp, data)))


def flows_():
    from convoy.wire import convoy_pb2 as pb
    from tests.fuzz.nodes import workspace

    _, model = workspace()
    for one in (
        pb.WorkerUp(ask=pb.Question(id="1.0", kind="train", round=1, rounds=2, model=model, at_least=1, sample=1)),
        pb.WorkerUp(ask=asked(id="1.1", model=model)),
        pb.WorkerUp(
            commit=pb.Commit(round=1, model=model, metrics={"loss": 1.0}, best=True, state=model, folded=["1.0"])
        ),
        pb.WorkerUp(done=pb.Done()),
        pb.WorkerUp(failure=pb.Failure(error="no", traceback="why", full=True)),
        pb.WorkerUp(sites=pb.SitesAsk()),
        pb.WorkerUp(points=pb.Points(points=[pb.Point(step=3, phase="train", values={"loss": 0.5})])),
        pb.WorkerUp(history=pb.HistoryAsk(after=-1)),
    ):
        yield one.SerializeToString()


def view(data: bytes) -> None:
    """The body of a request to the API; the first byte says of which."""
    from starlette.requests import Request

    from convoy.admin import faults, reading, views

    kinds = (views.LoginAsk, views.EnrolAsk, views.RenewAsk, views.InviteAsk)

    async def receive():
        return {"type": "http.request", "body": data[1:], "more_body": False}

    with suppress(ValueError):
        faults.from_json(json.loads(data[1:]), 400)
    asyncio.run(reading.read(Request({"type": "http", "headers": []}, receive), kinds[(data or b"\0")[0] % len(kinds)]))


def jobs():
    yield (
        b"name: x\ntrainer: train.py:train\nworkflow: fedavg\nwith: {rounds: 2, evaluate: true}\npatience: 1h30m\n"
        b"resources: {cpu: 1, memory: 1Gi}\nsites: [site-1]\nmodel: train.py:initial\nconfig: {a: [1, 2.5, null]}\n"
        b"\f@convoy.evaluate\ndef train(task): pass\ndef initial(): pass\n"
    )
    yield b"name: x\ntrainer: train.py\nworkflow: train.py:run\nwith: {a: 1}\n\fasync def run(fleet, a: int): pass\n"


def projects():
    from convoy.provision import sample

    yield sample.PROJECT.encode()


def views_():
    yield b'\0{"nonce":"n","certificate":"c","signature":"s"}'
    yield b'\1{"kind":"site","name":"s","token":"t","request":"r"}'
    yield b'\3{"kind":"site","name":"s","hash":"' + b"0" * 64 + b'","expires_at":1.5}'


# ---- statistics of tables ----------------------------------------------------------------------------------------
def statistics(data: bytes) -> None:
    """A statistics.json, as a server gives it."""
    from convoy.admin import findings
    from convoy.cli import statistics as shown
    from convoy.cli.output import Screen

    shown.say(Screen(json=True), data)
    list(findings.pictures(findings.read(data)))


def statistics_():
    yield (
        b'{"columns": {"age": {"histogram": {"edges": [0, 1e1], "counts": [5]}}}, "tables": [{"title": "t", "heads": '
        b'["a", "b"], "rows": [[1, "x"]]}], "correlation": {"columns": ["a"], "matrix": [[1.0]]}}'
    )
    yield (
        b'{"pictures": [{"kind": "lines", "lines": [{"x": [0], "y": [1], "low": [0], "high": [2]}]}, {"kind": "bars", '
        b'"labels": ["a"], "heights": [1]}, {"kind": "intervals", "labels": ["a"], "middle": [1], "low": [0], '
        b'"high": [2]}]}'
    )


def table(data: bytes) -> None:
    """A CSV file at a site."""
    from convoy.worker.table import open_table

    path = world()[0] / "table.csv"
    path.write_bytes(data)
    found = open_table(str(path))
    for _ in found.blocks(found.names[:1], found.names[1:]):
        pass


def tables():
    yield b'\xef\xbb\xbf"age, years",sex\r\n41,f\r\nNA,"m ""x"" \n"\r\n1e3,\r\n'


def upload(data: bytes) -> None:
    """The folder of a job, as a browser sends it to the dashboard."""
    from convoy.dashboard import drafts

    files, _ = drafts.unframed(data)
    draft = drafts.Drafts().add("a folder", files)
    assert sum(size for _, size, _ in draft.listed()) == sum(map(len, files.values())), "a byte was lost"
    draft.digest()


def uploads():
    for files in ({"job.yaml": b"name: a\n", "d/train.py": b"import convoy\n", ".git/x": b""}, {"job.yaml": b""}):
        listed = json.dumps([[path, len(text)] for path, text in files.items()]).encode()
        yield len(listed).to_bytes(4, "little") + listed + b"".join(files.values())
    yield b"\4\0\0\0[[]]"


def history(data: bytes) -> None:
    """The files of what happened at a site, as its owner's dashboard reads them: whole, and then as they grow."""
    from convoy.dashboard import rendering
    from convoy.owner.account import Book
    from convoy.site import history as kept

    folder = world()[0] / "history"
    folder.mkdir(exist_ok=True)
    middle = len(data) // 2
    for name in (kept.JOBS, kept.ANSWERS):
        (folder / name).write_bytes(data[:middle])
    book = Book(folder)
    book.refresh()
    for name in (kept.JOBS, kept.ANSWERS):
        with (folder / name).open("ab") as file:
            file.write(data[middle:])
    found = book.refresh()
    for job, account in found.jobs.items():
        assert (account.state, account.end, book.answers(job, 10)) is not None
        rendering.size(account.tally.size + account.tally.files_size)
    for day in found.days.values():
        rendering.size(day.size + day.files_size)


def histories():
    begun = {"at": NOW, "kind": "begun", "job": JOB, "name": "a", "submitter": ADA, "data": ["x"], "digest": "e" * 64}
    answer = {"at": NOW, "kind": "answer", "job": JOB, "question": "1.0", "round": 1, "size": 9, "metrics": ["loss"]}
    ended = {"at": NOW + 9, "kind": "ended", "job": JOB, "reason": "the job is over", "tally": {"answers": 1}}
    yield b"".join(json.dumps(it).encode() + b"\n" for it in (begun, answer, ended))
    for kind in ("refused", "stayed", "rejected"):
        yield json.dumps({"at": NOW, "kind": kind, "job": JOB, "reason": "no rule", "name": "a"}).encode() + b"\n"


TARGETS = {
    "header": Target(header, headers),
    "bundle": Target(bundle, lambda: [packed()]),
    "manifest": Target(manifest, manifests),
    "job": Target(job, jobs),
    "project": Target(project, projects),
    "local": Target(local, locals_),
    "request": Target(request, requests),
    "certificate": Target(certificate, certificates),
    "login": Target(login, logins_),
    "federation": Target(federation, federations_),
    "audit": Target(entry, entries),
    "up": Target(up, ups),
    "points": Target(points_, lambda: [LINES]),
    "artifacts": Target(artifacts, packages),
    "down": Target(down, downs),
    "flow": Target(flow, flows_),
    "pod": Target(pod, pods_),
    "trees": Target(trees, trees_),
    "view": Target(view, views_),
    "statistics": Target(statistics, statistics_),
    "table": Target(table, tables),
    "upload": Target(upload, uploads),
    "history": Target(history, histories),
}
