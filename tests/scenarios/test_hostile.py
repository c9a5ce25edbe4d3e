"""Code of a job that does what no code should: the job fails in words, and every node lives on."""

import pytest

from tests.scenarios.conftest import adding, left_out, put_job, took_part

pytestmark = pytest.mark.scenario

RAW = "from convoy.worker import tasks\nfrom convoy.wire import convoy_pb2 as pb\nlink = tasks.session()._link\n"


@pytest.fixture(autouse=True)
def nodes_that_live_on(three):
    """No test here may cost a node its life, nor its readiness for the next job."""
    before = {node.kit.name: node.pid for node in (three.server, *three.nodes.values())}
    yield
    for node in (three.server, *three.nodes.values()):
        assert node.process.poll() is None, f"{node.kit.name} died:\n{node.log.read_text()[-3000:]}"
        assert node.pid == before[node.kit.name]


def without_site_two(session, folder, train, rounds=2):
    """Run a job whose trainer misbehaves at site-2, and return why that was left out of each round."""
    job = put_job(folder, {"train.py": train}, with_={"rounds": rounds, "min_sites": 2})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    for done in detail.rounds[1:]:
        assert took_part(done) == ["site-1", "site-3"]
    reasons = [left_out(done)["site-2"] for done in detail.rounds[1:]]
    again = put_job(folder.with_name("after"), {"train.py": adding()}, with_={"rounds": 1, "min_sites": 3})
    assert session.wait(session.submit(again).id).job.state == "completed"
    return reasons


def test_an_update_that_was_never_written_is_refused_at_its_site(session, tmp_path):
    train = RAW + adding(
        """
        if number == 2:
            link.send(pb.WorkerUp(answer=pb.Answer(question=task.question, digest="0" * 64, weight=1.0)))
            tasks.session().open = None
            return None
        """
    )
    reasons = without_site_two(session, tmp_path / "absent", train)
    assert all("blob 000000000000 is not here" in reason for reason in reasons)


def test_a_digest_that_is_a_path_is_refused_at_its_site(session, tmp_path):
    train = RAW + adding(
        """
        if number == 2:
            link.send(pb.WorkerUp(answer=pb.Answer(question=task.question, digest="../../../startup/node", weight=1.0)))
            tasks.session().open = None
            return None
        """
    )
    reasons = without_site_two(session, tmp_path / "path", train)
    assert all("names a blob with an invalid digest" in reason for reason in reasons)


@pytest.mark.parametrize(
    "bytes_",
    ["b'\\xff' * 64", "b'\\x05\\x00\\x00\\x00hello'", "b'\\x00\\x00\\x00\\x00'"],
    ids=["long", "junk", "empty"],
)
def test_a_trainer_that_writes_nonsense_to_its_node_is_ended_and_left_out(bytes_, session, tmp_path):
    train = RAW + adding(f"if number == 2:\n    link._sock.sendall({bytes_})\n    sys.stdin.read()\n    gate(task)")
    reasons = without_site_two(session, tmp_path / "nonsense", train)
    assert all("trainer" in reason for reason in reasons)


def test_a_failure_of_three_megabytes_and_zeros_is_cut_by_the_server(session, tmp_path):
    train = RAW + adding(
        """
        if number == 2:
            why = "why" + chr(0) * 2_000_000
            failed = pb.TaskFailed(question=task.question, error="no " * 400_000 + chr(0), traceback=why)
            link.send(pb.WorkerUp(failed=failed))
            tasks.session().open = None
            return None
        """
    )
    reasons = without_site_two(session, tmp_path / "raw", train)
    assert all(reason.startswith("train: no no no") and len(reason) < 10_000 for reason in reasons)


def test_an_error_of_ten_megabytes_is_cut_and_told(session, tmp_path):
    train = adding("if number == 2: raise ValueError('too much to say ' * 700_000)")
    reasons = without_site_two(session, tmp_path / "chatty", train)
    assert all("ValueError: too much to say" in reason and len(reason) < 10_000 for reason in reasons)


def test_an_error_that_is_no_text_is_told_all_the_same(session, tmp_path):
    train = adding("if number == 2: raise ValueError('half a character \\udc80 and \\x00 nothing')")
    reasons = without_site_two(session, tmp_path / "surrogates", train)
    assert all("ValueError: half a character" in reason for reason in reasons)


def test_a_trainer_that_closes_its_line_and_works_on_is_ended_and_left_out(session, tmp_path):
    train = RAW + adding("if number == 2:\n    link.close()\n    gate(task)")
    reasons = without_site_two(session, tmp_path / "closes", train, rounds=1)
    assert all("trainer" in reason for reason in reasons)


def test_a_trainer_that_removes_its_folders_is_left_out(session, tmp_path):
    train = adding("import shutil\nif number == 2:\n    shutil.rmtree(os.path.dirname(os.getcwd()))")
    reasons = without_site_two(session, tmp_path / "removes", train)
    assert len(reasons) == 2


def test_a_trainer_that_prints_without_end_neither_stops_the_job_nor_its_node(session, tmp_path):
    train = adding("if number == 2:\n    for _ in range(2000): print('x' * 10_000)")
    job = put_job(tmp_path / "prints", {"train.py": train}, with_={"rounds": 1, "min_sites": 3})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    assert sum(len(line.text) for line in session.logs(detail.job.id, site="site-2")) > 20_000_000


FLOW = """
import asyncio, os, shutil, socket
import numpy as np
from convoy.wire import convoy_pb2 as pb

def line():
    return socket.socket(fileno=int(os.environ["CONVOY_WORKER_FD"]))

async def run(fleet):
    DEED
    await asyncio.Event().wait()
"""
DEEDS = {
    "long": "line().sendall(b'\\xff' * 64)",
    "junk": "line().sendall(b'\\5\\0\\0\\0hello')",
    "answers": "fleet.carrier.send(pb.WorkerUp(answer=pb.Answer(question='1.0')))",
    "path": "fleet.carrier.send(pb.WorkerUp(commit=pb.Commit(round=1, model='../../x')))",
    "absent": "fleet.carrier.send(pb.WorkerUp(commit=pb.Commit(round=1, model='0' * 64)))",
    "hangs up": "line().shutdown(socket.SHUT_RDWR)",
    "dies": "os._exit(3)",
    "removes": "shutil.rmtree('..'); os._exit(3)",
    "huge": "raise ValueError('too much to say ' * 700_000)",
    "no text": "raise ValueError('half a character \\udc80 and \\0 nothing')",
    "kind": "[one async for one in fleet.ask('x' * 300, {'w': np.ones(3)})]",
    "not finite": "[one async for one in fleet.ask('train', {'w': np.ones(3)}, settings={'factor': float('nan')})]",
    "nowhere": "[one async for one in fleet.ask('train', {}, sites=['nowhere', '../x'])]",
}


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
def test_a_workflow_that_misbehaves_fails_its_job_alone(deed, session, tmp_path):
    files = {"flow.py": FLOW.replace("DEED", deed), "train.py": adding()}
    job = put_job(tmp_path / "bad", files, workflow="flow.py:run", patience="1s")
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "failed"
    assert detail.job.cause
    assert len(detail.job.cause) < 10_000
    again = put_job(tmp_path / "after", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 3})
    assert session.wait(session.submit(again).id).job.state == "completed"
