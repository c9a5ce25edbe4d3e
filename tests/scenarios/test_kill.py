"""kill -9 of any process in mid-round costs nothing: the job goes on by itself and ends with the same bits."""

import os
import signal
from pathlib import Path

import pytest

from tests.scenarios.conftest import adding, ended, family, put_job, write_job

pytestmark = pytest.mark.scenario


def models(federation, job):
    with federation.session() as session:
        detail = session.wait(job)
        assert detail.job.state == "completed", detail.job.cause
        return [(done.round, done.model, [share.site for share in done.took_part]) for done in detail.rounds]


@pytest.fixture(scope="module")
def undisturbed(two, tmp_path_factory):
    """The rounds of the same job when nothing happens."""
    with two.session() as session:
        return models(two, session.submit(write_job(tmp_path_factory.mktemp("calm"), size=300_000)).id)


@pytest.mark.parametrize("victim", ["server", "site", "workflow", "trainer"])
def test_a_killed_process_in_mid_round_changes_no_bit_of_the_model(victim, pair, undisturbed, tmp_path):
    federation, gates = pair, pair.gates
    first = federation.nodes["site-1"]
    with federation.session() as session:
        job = session.submit(write_job(tmp_path / "job", size=300_000, gate=2)).id
        for gate in gates.values():
            gate.wait()
        match victim:
            case "server":
                federation.server.kill()
                federation.server.start()
            case "site":
                first.kill()
                first.start()
                gates["site-1"].wait()
            case "workflow":
                (worker,) = federation.server.children()
                os.kill(worker, signal.SIGKILL)
            case "trainer":
                (worker,) = first.children()
                os.kill(worker, signal.SIGKILL)
                gates["site-1"].wait()
        for gate in gates.values():
            gate.open()
    assert models(federation, job) == undisturbed


def test_an_answer_given_while_the_server_was_dead_counts_without_training_again(pair, undisturbed, tmp_path):
    federation, gates = pair, pair.gates
    with federation.session() as session:
        job = session.submit(write_job(tmp_path / "job", size=300_000, gate=2)).id
        for gate in gates.values():
            gate.wait()
        federation.server.kill()
        for gate in gates.values():
            gate.open()
        federation.server.start()
        assert models(federation, job) == undisturbed
        lines = [line.text.split(" ", 1)[1] for line in session.logs(job) if line.site == "site-1"]
    assert lines == ["round 1 at site-1", "round 2 at site-1", "round 3 at site-1"]


@pytest.mark.parametrize("after", [2, 5, 9])
def test_a_server_killed_after_any_change_of_the_job_resumes(after, pair, undisturbed, tmp_path):
    federation = pair
    with federation.session() as session:
        job = session.submit(write_job(tmp_path / "job", size=300_000)).id
        for count, progress in enumerate(session.watch(job)):
            if count == after and progress.job.state == "running":
                federation.server.kill()
                federation.server.start()
    assert models(federation, job) == undisturbed


def test_what_the_trainer_of_a_killed_site_had_started_ends_with_it(pair, tmp_path):
    federation, gates = pair, pair.gates
    first = federation.nodes["site-1"]
    train = adding(
        """
        import subprocess
        if number == 1:
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            with open("child", "w") as file:
                file.write(str(child.pid))
        gate(task)
        """
    )
    job = put_job(tmp_path / "job", {"train.py": train}, with_={"rounds": 1, "min_sites": 2})
    with federation.session() as session:
        job = session.submit(job).id
        for gate in gates.values():
            gate.wait()
        started = family(first)
        assert "sleep" in {Path(f"/proc/{pid}/comm").read_text().strip() for pid in started}
        first.kill()
        assert ended(started, within_s=60)
        first.start()
        gates["site-1"].wait()
        for gate in gates.values():
            gate.open()
        assert session.wait(job).job.state == "completed"
