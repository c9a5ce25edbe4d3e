"""`convoy job track` on real federations: three trackers at once, killed in the middle, and MLflow's server, too."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.federation import ADMIN
from tests.scenarios.conftest import adding, put_job
from tests.trackers.readers import MLflowRuns, TensorBoardFolder, WandBFolder

for name in ("mlflow", "tensorboard", "wandb"):
    pytest.importorskip(name)
pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]

MEASURES = """
for step in range(20):
    convoy.metrics({"loss": 1 / (1 + step)}, step=20 * task.round + step, phase="train")
if task.round == task.config["gate"]:
    gate(task)
"""
ROUNDS = 4
STEPS = [20 * round_ + step for round_ in range(1, ROUNDS + 1) for step in range(20)]


def measuring(folder, *, gate):
    """Write a job whose trainers measure, and wait at the gate in one round."""
    files, with_ = {"train.py": adding(MEASURES)}, {"rounds": ROUNDS, "min_sites": 2}
    return put_job(folder, files, with_=with_, config={"gate": gate}, patience="300s")


@contextmanager
def tracking(federation, job, *words, who=ADMIN, **env):
    """Run the command for as long as the block lasts; give the process and a function that waits for lines of it."""
    command = [sys.executable, "-m", "convoy.cli.main", "job", "track", job, *words]
    kit = ["--kit", str(federation.prod / who), "--server", "localhost"]
    process = subprocess.Popen(
        [*command, *kit], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | env
    )
    said = []

    def until(*wanted):
        missing = set(wanted)
        for line in process.stdout:
            said.append(line)
            missing -= {word for word in missing if re.search(word, line)}
            if not missing:
                return
        raise AssertionError("".join(said))

    try:
        yield process, until
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def check(seen, job, *, state="completed"):
    """Assert that everything of the job is there, and nothing twice."""
    for site in ("site-1", "site-2"):
        assert [step for step, _ in seen.curves[site, "train/loss"]] == STEPS
        assert [step for step, _ in seen.curves[site, "round/weight"]] == list(range(1, ROUNDS + 1))
    assert [value for _, value in seen.curves["", "round/took_part"]][-ROUNDS:] == [2.0] * ROUNDS
    assert [step for step, _ in seen.curves["", "number"]][-ROUNDS:] == list(range(1, ROUNDS + 1))
    assert seen.params["with.rounds"] == str(ROUNDS)
    assert seen.params["workflow"] == "fedavg"
    tags = {"convoy.job": job, "convoy.bundle": job, "convoy.submitter": ADMIN, "convoy.org": "org"}
    assert (tags | {"convoy.sites": "site-1, site-2"}).items() <= seen.tags.items()
    assert seen.state == state


def test_a_kill_of_the_command_doubles_and_loses_nothing_at_three_trackers(pair, mlflow, tmp_path, monkeypatch):
    federation, gates = pair, pair.gates
    runs, folder = MLflowRuns(mlflow.uri), TensorBoardFolder(tmp_path / "tb")
    offline = WandBFolder(tmp_path / "wb", monkeypatch)
    words = ["--mlflow", mlflow.uri, "--tensorboard", str(folder.folder), "--wandb", "trials"]
    with federation.session() as session:
        job = session.submit(measuring(tmp_path / "job", gate=3)).id
        for gate in gates.values():
            gate.wait()
        early = ("goes to MLflow", "goes to TensorBoard", "goes to the W&B")
        late = (
            "2 are in MLflow|MLflow.* after round 2",
            "2 are in Tensor|Tensor.* after round 2",
            "2 are in the W|W&B.* 2",
        )
        for seen in (early, late, ("in MLflow", "in TensorBoard", "in the W&B")):
            with tracking(federation, job, *words) as (process, until):
                until(*seen)
                process.send_signal(signal.SIGKILL)
                process.wait()
        for gate in gates.values():
            gate.open()
        with tracking(federation, job, *words) as (process, until):
            until("completed; MLflow", "completed; TensorBoard's", "completed; the W&B")
            assert process.wait() == 0
        assert session.job(job).job.state == "completed"
    for seen in (runs.seen(job), folder.seen(job), offline.seen(job)):
        check(seen, job)
    assert {"model.safetensors", "job.json", "rounds.json"} <= set(runs.seen(job).results)
    assert "model.safetensors" in offline.seen(job).results


def test_curves_are_complete_after_mlflow_was_away_and_the_job_did_not_wait(pair, mlflow, tmp_path):
    federation, gates = pair, pair.gates
    with federation.session() as session:
        job = session.submit(measuring(tmp_path / "job", gate=2)).id
        for gate in gates.values():
            gate.wait()
        with tracking(federation, job, "--mlflow", mlflow.uri) as (process, until):
            until("1 (is|are) in MLflow")
            mlflow.kill()
            for gate in gates.values():
                gate.open()
            assert session.wait(job).job.state == "completed"
            until("does not answer", "trying again in")
            mlflow.start()
            until("completed; MLflow")
            assert process.wait() == 0
    check(MLflowRuns(mlflow.uri).seen(job), job)


def test_a_kill_of_the_job_s_server_doubles_and_loses_nothing(pair, tmp_path):
    federation, gates = pair, pair.gates
    folder = TensorBoardFolder(tmp_path / "tb")
    with federation.session() as session:
        job = session.submit(measuring(tmp_path / "job", gate=2)).id
        for gate in gates.values():
            gate.wait()
        with tracking(federation, job, "--tensorboard", str(folder.folder)) as (process, until):
            until("1 (is|are) in TensorBoard")
            federation.server.kill()
            federation.server.start()
            for gate in gates.values():
                gate.open()
            until("completed; TensorBoard")
            assert process.wait() == 0
    check(folder.seen(job), job)


def test_an_ended_job_is_tracked_as_well_and_an_aborted_one_says_so(pair, tmp_path):
    federation, gates = pair, pair.gates
    folder = TensorBoardFolder(tmp_path / "tb")
    with federation.session() as session:
        job = session.submit(measuring(tmp_path / "job", gate=2)).id
        for gate in gates.values():
            gate.wait()
        session.abort(job)
        for _ in range(2):
            with tracking(federation, job[:8], "--tensorboard", str(folder.folder)) as (process, _):
                assert process.wait() == 0
    seen = folder.seen(job)
    assert seen.state == "aborted"
    assert [step for step, _ in seen.curves["site-1", "train/loss"]][:20] == list(range(20, 40))


def test_who_may_not_read_live_metrics_tracks_the_rounds_and_is_told(started, tmp_path):
    federation = started(people={"max@example.org": ("org", "member")})
    folder = TensorBoardFolder(tmp_path / "tb")
    with federation.session() as session:
        job = session.submit(measuring(tmp_path / "job", gate=0)).id
        assert session.wait(job).job.state == "completed"
    with tracking(federation, job, "--tensorboard", str(folder.folder), who="max@example.org") as (process, until):
        until("live metrics are not tracked")  # TensorBoard wants no results
        assert process.wait() == 0
    seen = folder.seen(job)
    assert ("site-1", "train/loss") not in seen.curves
    assert [step for step, _ in seen.curves["", "number"]][-ROUNDS:] == list(range(1, ROUNDS + 1))
