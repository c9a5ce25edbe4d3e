"""What a worker hands over can neither stop its node nor change once the node has it, whatever kind of file it is."""

import ctypes
import os
import signal
import socket
import stat
import threading
from contextlib import suppress

import numpy as np
import pytest

from convoy.errors import RemoteFault, StorageFull
from convoy.model import blob
from convoy.store import arrays, handover
from convoy.store.blobs import BlobFolder
from convoy.store.spares import SPARE
from tests.handing import hand_over
from tests.scenarios.conftest import adding, left_out, put_job, took_part

ARRAYS = {"w": np.arange(50_000, dtype=np.float32)}


@pytest.fixture
def pool(tmp_path):
    (tmp_path / "blobs").mkdir()
    return BlobFolder(tmp_path / "blobs")


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def everything_fits(_layout, _stored):
    return


def of_arrays(path):
    hand_over(path.parent, ARRAYS)
    return path


def fifo(path):
    os.mkfifo(path)


def link(path):
    other = path.with_name("elsewhere")
    of_arrays(path).rename(other)
    path.symlink_to(other)


def two_names(path):
    os.link(of_arrays(path), path.with_name("another"))


def sparse(path):
    of_arrays(path)
    os.truncate(path, 1 << 40)


def cut(path):
    os.truncate(of_arrays(path), 1000)


def directory(path):
    path.mkdir()


def device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("making a device takes root")


def sock(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has 108 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def wrong_header(path):
    data = bytearray(of_arrays(path).read_bytes())
    data[60] ^= 1
    path.write_bytes(data)


def no_header(path):
    path.write_bytes(b"\xff" * 100)


def nothing(path):
    path.touch()


def leased(path):
    """Open the file with a lease, which makes whoever else opens it wait for as long as its holder likes."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # by which the kernel asks for it back
    descriptor = os.open(of_arrays(path), os.O_RDWR)
    assert ctypes.CDLL(None).fcntl(descriptor, 1024, 1) == 0  # F_SETLEASE, F_WRLCK


FILES = [fifo, link, two_names, sparse, cut, directory, device, sock, wrong_header, no_header, nothing, leased]


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    return hand_over(tmp_path_factory.mktemp("made"), ARRAYS)


@pytest.mark.parametrize("put", FILES, ids=lambda put: put.__name__)
def test_a_node_takes_a_plain_whole_file_and_nothing_else(put, pool, out, digest):
    put(out / f"{digest}.safetensors")
    with pytest.raises(RemoteFault):
        pool.take("answer", out, digest, everything_fits)
    assert not pool.digests()
    assert not pool.holds()
    assert not list(pool.folder.rglob("*.draft"))
    handover.empty(out)
    assert hand_over(out, ARRAYS) == digest
    pool.take("answer", out, digest, everything_fits)
    assert pool.verify(digest)


def outside(path):
    path.symlink_to(path.parent.parent / "outside")


def full_directory(path):
    path.mkdir()
    (path / "inside").touch()


@pytest.mark.parametrize("put", [fifo, outside, directory, full_directory, nothing], ids=lambda put: put.__name__)
def test_what_lies_under_the_name_of_a_worker_s_spare_file_stops_nobody(put, pool, out, monkeypatch):
    monkeypatch.setattr("convoy.store.spares.STEP", 0)
    (out.parent / "outside").write_bytes(b"kept")
    digest = hand_over(out, ARRAYS)
    put(out / SPARE)
    pool.take("answer", out, digest, everything_fits)
    assert pool.verify(digest)
    assert (out.parent / "outside").read_bytes() == b"kept"
    handover.empty(out)
    assert hand_over(out, ARRAYS) == digest


@pytest.mark.parametrize("digest", ["", "0" * 63, "../" + "0" * 61, "0" * 63 + "/", "\0" * 64, "0" * 5000])
def test_what_is_no_digest_names_no_file(digest, pool, out):
    with pytest.raises(RemoteFault, match="not the name of a blob"):
        pool.take("answer", out, digest, everything_fits)
    with pytest.raises(RemoteFault, match="not the name of a blob"):
        handover.size(out, digest)


def test_a_folder_that_is_a_link_is_not_followed(pool, out, digest, tmp_path):
    of_arrays(out / f"{digest}.safetensors")
    out.rename(tmp_path / "elsewhere")
    out.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RemoteFault, match="folder is not there"):
        pool.take("answer", out, digest, everything_fits)


def test_what_is_rewritten_through_an_old_descriptor_stays_what_it_was(pool, out):
    digest = hand_over(out, ARRAYS)
    kept = os.open(out / f"{digest}.safetensors", os.O_RDWR)
    pool.take("answer", out, digest, everything_fits)
    os.pwrite(kept, b"\xff" * 100_000, 0)
    os.ftruncate(kept, 0)
    assert pool.verify(digest)
    np.testing.assert_array_equal(arrays.load(pool, digest)["w"], ARRAYS["w"])
    assert not list(out.iterdir())


def test_a_terabyte_of_holes_is_refused_before_a_byte_of_it_is_copied(pool, out):
    size = (1 << 40) // 4
    tensor = blob.Described("w", "F32", (size,), size * 4, blob.EMPTY)
    layout = blob.build([tensor])
    path = out / f"{layout.digest}.safetensors"
    with path.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.size)
    with pytest.raises(RemoteFault, match="there is room for"):
        pool.take("answer", out, layout.digest, handover.room(1 << 30))
    assert not pool.digests()


def test_a_blob_that_is_whole_and_too_large_waits_for_room(pool, out):
    digest = hand_over(out, ARRAYS)
    with pytest.raises(StorageFull):
        pool.take("answer", out, digest, handover.room(1000))


def test_a_file_that_shrinks_and_grows_meanwhile_stops_nobody(pool, out):
    large = {"w": np.zeros(2_000_000, np.float32)}
    going, made = threading.Event(), []

    def wobble():
        while not going.is_set():
            for path in made:
                with suppress(OSError):
                    os.truncate(path, 100)
                    os.truncate(path, 8_000_000)

    worker = threading.Thread(target=wobble)
    worker.start()
    try:
        for _ in range(30):
            digest = hand_over(out, large)
            made[:] = [out / f"{digest}.safetensors"]
            with suppress(RemoteFault):
                pool.take("answer", out, digest, everything_fits)
                pool.verify(digest)  # it may hold torn bytes, which its digests tell; it has its full size
                assert pool.read_header(digest).size == pool.path(digest).stat().st_size
            pool.release("answer", digest)
            made.clear()
    finally:
        going.set()
        worker.join()


# ---- the same by real trainers and workflows -----------------------------------------------------------------------
HAND = """
import stat
from pathlib import Path
from convoy.store import arrays
from convoy.wire import convoy_pb2 as pb
from convoy.worker import tasks


def attack(how, files, model):
    digest, _ = arrays.hand_over(files.out, model)
    path = files.out / f"{digest}.safetensors"
    if how == "rewritten":
        return digest, os.open(path, os.O_RDWR)
    data = path.read_bytes()
    path.unlink()
    if how == "fifo":
        os.mkfifo(path)
    if how == "link":
        path.symlink_to("/etc/passwd")
    if how == "sparse":
        path.write_bytes(data)
        os.truncate(path, 1 << 40)
    if how == "directory":
        path.mkdir()
    if how == "cut":
        path.write_bytes(data[:-4])
    return digest, -1
"""
WAYS = ["fifo", "link", "sparse", "directory", "cut"]


@pytest.fixture
def live(three):
    """A federation of which no node may die."""
    before = {node.kit.name: node.pid for node in (three.server, *three.nodes.values())}
    yield three
    for node in (three.server, *three.nodes.values()):
        assert node.process.poll() is None, f"{node.kit.name} died:\n{node.log.read_text()[-3000:]}"
        assert node.pid == before[node.kit.name]


@pytest.mark.scenario
@pytest.mark.parametrize("how", WAYS)
def test_a_trainer_that_hands_over_something_else_is_left_out_and_its_site_goes_on(how, live, session, tmp_path):
    train = HAND + adding(
        f"""
        if number == 2:
            here = tasks.session()
            digest, _ = attack({how!r}, here._files, {{"w": np.asarray(w + number)}})
            here._send(pb.WorkerUp(answer=pb.Answer(question=task.question, digest=digest, weight=1.0)))
            here.open = None
            return None
        """,
        size=20_000,
    )
    job = put_job(tmp_path / how, {"train.py": train}, with_={"rounds": 2, "min_sites": 2})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    for done in detail.rounds[1:]:
        assert took_part(done) == ["site-1", "site-3"]
        assert "blob" in left_out(done)["site-2"]


@pytest.mark.scenario
def test_a_trainer_that_rewrites_what_it_has_handed_over_changes_nothing(live, session, tmp_path):
    train = HAND + adding(
        """
        if number == 2:
            here = tasks.session()
            digest, kept = attack("rewritten", here._files, {"w": np.asarray(w + number)})
            here._send(pb.WorkerUp(answer=pb.Answer(question=task.question, digest=digest, weight=2.0)))
            here.open = None
            for _ in range(2000):
                os.pwrite(kept, os.urandom(4096), 2048)
            os.ftruncate(kept, 0)
            return None
        """,
        size=200_000,
    )
    job = put_job(tmp_path / "rewrites", {"train.py": train}, with_={"rounds": 3, "min_sites": 2})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    again = put_job(tmp_path / "after", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 3})
    assert session.wait(session.submit(again).id).job.state == "completed"


@pytest.mark.scenario
@pytest.mark.parametrize("how", WAYS)
def test_a_workflow_that_hands_over_something_else_fails_and_its_server_goes_on(how, live, session, tmp_path):
    flow = (
        "import os\nimport numpy as np\n"
        + HAND
        + f"""
async def run(fleet):
    files = tasks.Files(fleet.carrier._folder, fleet.carrier._out)
    digest, _ = attack({how!r}, files, {{"w": np.ones(200_000, np.float32)}})
    fleet.carrier.send(pb.WorkerUp(commit=pb.Commit(round=1, model=digest)))
    await fleet.sites()
    await fleet.sites()
"""
    )
    job = put_job(tmp_path / how, {"train.py": adding(), "flow.py": flow}, workflow="flow.py:run")
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "failed"
    assert "blob" in detail.job.cause, detail.job.cause
    again = put_job(tmp_path / "after", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 3})
    assert session.wait(session.submit(again).id).job.state == "completed"
