"""What answers took, in a real federation: by round and site, in the results, across kills, kept by a policy."""

import json
import os
import signal

import pytest
from click.testing import CliRunner

from convoy.cli.main import app
from tests.federation import ADMIN
from tests.scenarios.conftest import adding, put_job, write_job

pytestmark = pytest.mark.scenario

BURN = """
import time
ballast = np.ones(8_000_000)  # 64 MB
begun = time.process_time()
while time.process_time() < begun + 0.3:
    ballast += 1
"""


def test_people_see_what_each_site_took_and_a_policy_keeps_it(started, tmp_path):
    federation = started()
    (federation.nodes["site-2"].kit / "local" / "policy.yaml").write_text("leave: {resources: false}\n")
    folder = put_job(tmp_path / "job", {"train.py": adding(BURN, size=50_000)}, with_={"rounds": 2, "min_sites": 2})
    with federation.session() as session:
        job = session.submit(folder).id
        detail = session.wait(job)
        assert detail.job.state == "completed", detail.job.cause
        made = session.round(job, 2)
        files = {file.name: file for file in session.fetch(job, tmp_path / "results")}
    spent = {member.site: member.cost for member in detail.members}
    one, other = spent["site-1"], spent["site-2"]
    assert 0.5 < one.cpu_s < 60  # 0.3 s in each of two rounds
    assert one.train_s >= 0.5
    assert one.memory > 64 << 20
    assert (other.cpu_s, other.train_s, other.memory, other.pull_s, other.release_s) == (0, 0, 0, 0, 0)
    for cost in (one, other):  # what the server itself measures
        assert cost.answers == 2
        assert cost.took_s > 0.5
        assert cost.down >= 2 * 200_000
        assert cost.up >= 2 * 200_000
    took = {share.site: share for share in made.took_part}
    assert took["site-1"].cost.answers == 1
    assert 0.2 < took["site-1"].cost.cpu_s < one.cpu_s
    assert [took[site].cosine for site in took] == pytest.approx([1, 1])
    assert took["site-2"].norm == pytest.approx(2 * 50_000**0.5, rel=1e-6)
    kept = json.loads(files["resources.json"].read_text())
    assert kept["site-1"] == one.model_dump()
    kit = ["--kit", str(federation.prod / ADMIN), "--server", "localhost"]
    shown = CliRunner().invoke(app, ["job", "show", job, *kit], catch_exceptions=False).stdout
    assert "PROCESSOR" in shown
    rounds = CliRunner().invoke(app, ["job", "rounds", job, "2", *kit], catch_exceptions=False).stdout
    assert "COSINE" in rounds


@pytest.mark.parametrize("victim", ["server", "site", "trainer"])
def test_after_a_kill_each_answer_is_counted_once(victim, pair, tmp_path):
    federation, gates = pair, pair.gates
    first = federation.nodes["site-1"]
    with federation.session() as session:
        job = session.submit(write_job(tmp_path / "job", size=1000, gate=2)).id
        for gate in gates.values():
            gate.wait()
        (waits,) = session.job(job).open
        assert (waits.round, waits.kind, waits.answered, waits.waiting) == (2, "train", 0, 2)
        assert waits.waiting_for == ["site-1", "site-2"]
        assert waits.asked_at > 1.7e9
        match victim:
            case "server":
                federation.server.kill()
                federation.server.start()
            case "site":
                first.kill()
                first.start()
                gates["site-1"].wait()
            case "trainer":
                (worker,) = first.children()
                os.kill(worker, signal.SIGKILL)
                gates["site-1"].wait()
        for gate in gates.values():
            gate.open()
    with federation.session() as session:
        detail = session.wait(job)
        assert detail.job.state == "completed", detail.job.cause
        assert detail.open == []
        assert {member.site: member.cost.answers for member in detail.members} == {"site-1": 3, "site-2": 3}
        assert all(share.cost.answers == 1 for n in (1, 2, 3) for share in session.round(job, n).took_part)
