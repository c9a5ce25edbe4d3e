"""Live metrics in real federations: from the call in a trainer to what people read, through policies and kills."""

import csv
import io
import json
import os
import signal
from collections import Counter

import pytest
from click.testing import CliRunner

from convoy.cli.main import app
from tests.federation import ADMIN
from tests.scenarios.conftest import adding, put_job

pytestmark = pytest.mark.scenario

MEASURES = """
for step in range(40):
    convoy.metrics({"loss": 1 / (1 + step + number)}, step=40 * task.round + step, phase="train")
if task.round == task.config["gate"]:
    gate(task)
convoy.metrics({"late": float(task.round)}, step=task.round)
"""
FLOW = """
import convoy
import numpy as np

async def run(fleet):
    async for round in fleet.rounds(3):
        mean = convoy.Mean(like=round.model)
        async for update in fleet.ask("train", round.model, at_least=2):
            mean.add(update)
            convoy.metrics({"weight": update.weight})
        await round.commit(mean.result())
"""
EVERY = [("loss", 40 * round_ + step, round_) for round_ in (1, 2, 3) for step in range(40)]
EVERY += [("late", round_, round_) for round_ in (1, 2, 3)]


def measuring(folder, *, gate=0, body=MEASURES, files=None, **spec):
    """Write a job whose trainers measure, and wait at the gate in one round."""
    spec = {"with_": {"rounds": 3, "min_sites": 2}, "config": {"gate": gate}} | spec
    return put_job(folder, {"train.py": adding(body), **(files or {})}, **spec)


def told(points, site):
    """Return what a site measured: key, step and round of each value."""
    return sorted((key, one.step, one.round) for one in points if one.site == site for key in one.values)


@pytest.mark.parametrize("victim", ["server", "site", "trainer", "workflow"])
def test_a_kill_in_mid_stream_doubles_and_loses_no_point_that_was_acknowledged(victim, pair, tmp_path):
    federation, gates = pair, pair.gates
    first = federation.nodes["site-1"]
    with federation.session() as session:
        job = session.submit(measuring(tmp_path / "job", gate=2)).id
        for gate in gates.values():
            gate.wait()
        before = {(one.site, one.number): one for one in session.points(job)}
        assert before
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
        assert session.wait(job).job.state == "completed"
        points = list(session.points(job))
        after = {(one.site, one.number): one for one in points}
    assert len(after) == len(points)
    assert before.items() <= after.items()
    assert told(points, "site-2") == sorted(EVERY)
    mine, again = Counter(told(points, "site-1")), {it for it in EVERY if it[2] == 2}
    if victim in ("site", "trainer"):  # its task is done once more, and measured once more
        assert mine.keys() == set(EVERY)
        assert {it for it, count in mine.items() if count > 1} <= again
    else:
        assert mine == Counter(EVERY)


def test_people_read_them_as_a_table_as_csv_as_json_as_a_picture_and_among_the_results(started, tmp_path, monkeypatch):
    federation = started()
    (federation.nodes["site-2"].kit / "local" / "policy.yaml").write_text('leave: {live: {keys: ["lo*"], digits: 2}}\n')
    folder = measuring(tmp_path / "job", files={"flow.py": FLOW}, workflow="flow.py:run", with_={})
    monkeypatch.chdir(tmp_path)
    kit = ["--kit", str(federation.prod / ADMIN), "--server", "localhost"]

    def ran(*words):
        done = CliRunner().invoke(app, ["job", "metrics", job, *words, *kit], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    with federation.session() as session:
        job = session.submit(folder).id
        live = list(session.points(job, site="site-1", key="loss", follow=True))
        assert [one.step for one in live] == list(range(40, 160))
        assert session.job(job).job.state == "completed"
        files = {file.name: file for file in session.fetch(job, tmp_path / "results")}
        log = [line.text for line in session.logs(job, site="site-2")]
        few = [one.number for one in session.points(job, site="site-2")]
    assert len(few) == 120
    assert any("some values of live metrics stay here" in line for line in log)
    assert any("3 values of live metrics stayed here" in line for line in log)
    assert not any("late" in line for line in log)
    kept = [json.loads(line) for line in files["site-2.jsonl"].read_text().splitlines()]
    assert {tuple(one["values"]) for one in kept} == {("loss",)}
    assert all(value == float(f"{value:.2g}") for one in kept for value in one["values"].values())
    own = [json.loads(line) for line in files["server.jsonl"].read_text().splitlines()]
    assert [(one["round"], one["values"]["weight"]) for one in own] == [(n, w) for n in (1, 2, 3) for w in (1.0, 2.0)]
    table = ran()
    assert "train loss" in table
    assert "weight" in table
    rows = list(csv.DictReader(io.StringIO(ran("--csv", "--site", "site-1", "--key", "l*"))))
    assert [(row["key"], row["phase"]) for row in rows[39:42]] == [("loss", "train"), ("late", ""), ("loss", "train")]
    assert len(ran("--json", "--site", "site-2").splitlines()) == 120
    ran("--plot", "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    none = CliRunner().invoke(app, ["job", "metrics", job, "--key", "nothing", *kit])
    assert none.exit_code != 0


AFTER = """
import convoy
from convoy.tracking import SummaryWriter

flare = convoy
flare.init()
writer = SummaryWriter()
while flare.is_running():
    model = flare.receive()
    writer.add_scalar("loss", 0.5, global_step=model.current_round)
    flare.send(model)
writer.add_scalar("final", 1.0)
"""


def test_a_script_of_nvidia_flare_reports_with_its_writer_also_after_its_loop(started, tmp_path):
    federation = started()
    first = "import numpy as np\ndef initial():\n    return {'w': np.zeros(4, np.float32)}\n"
    files = {"train.py": AFTER, "first.py": first}
    with federation.session() as session:
        job = session.submit(put_job(tmp_path / "job", files, model="first.py:initial", with_={"rounds": 2})).id
        assert session.wait(job).job.state == "completed"
        found = [(one.site, one.step, one.round, dict(one.values)) for one in session.points(job)]
    wanted = [(0, 1, {"loss": 0.5}), (1, 2, {"loss": 0.5}), (None, 2, {"final": 1.0})]
    assert found == [(site, *one) for site in ("site-1", "site-2") for one in wanted]
