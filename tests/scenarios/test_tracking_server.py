"""A server whose node.yaml names experiment trackers: every job arrives there, whatever becomes of the process."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.federation import Federation
from tests.scenarios.conftest import GATES, Gate, family
from tests.scenarios.test_tracking import check, measuring
from tests.trackers.readers import MLflowRuns, TensorBoardFolder, WandBFolder

for name in ("mlflow", "tensorboard", "wandb"):
    pytest.importorskip(name)
pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]


def followed(log, *words):
    """Read what a node writes into its log, a pipe, until each pattern was there."""
    said = []
    missing = set(words)
    for line in log:
        said.append(line)
        missing -= {word for word in missing if re.search(word, line)}
        if not missing:
            return
    raise AssertionError("".join(said))


@pytest.fixture
def tracked(mlflow, tmp_path):
    """A federation that sends all jobs to MLflow and TensorBoard; its server's log is a pipe that the test reads."""
    settings = f"track: {{mlflow: '{mlflow.uri}', tensorboard: ../boards, wandb: trials, env: {{WANDB_MODE: offline}}}}"
    federation = Federation(tmp_path / "fed", settings=GATES, server_settings=settings)
    log = federation.server.log
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        federation.up()
        os.set_blocking(reader, True)
        gates = {name: Gate(node.kit / "local") for name, node in federation.nodes.items()}
        with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
            yield federation, gates, lines
    finally:
        log.unlink()
        federation.down()


def trackers(federation):
    """Return the processes that send jobs to trackers."""
    found = []
    for pid in family(federation.server):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except FileNotFoundError:
            continue
        if b"convoy.trackers.service" in command:
            found.append(pid)
    return found


def test_every_job_arrives_also_when_the_process_and_the_server_are_killed(tracked, mlflow, tmp_path, monkeypatch):
    federation, gates, lines = tracked
    names = f"MLflow at {mlflow.uri}", "TensorBoard's folder .*/boards", "the W&B project trials"
    with federation.session() as session:
        job = session.submit(measuring(tmp_path / "job", gate=2)).id
        for gate in gates.values():
            gate.wait()
        followed(lines, "1 (is|are) in MLflow")
        for pid in trackers(federation):
            os.kill(pid, signal.SIGKILL)
        followed(lines, "the process for experiment trackers ended", "goes on in MLflow")
        federation.server.kill()
        federation.server.start()
        followed(lines, "goes on in MLflow")
        for gate in gates.values():
            gate.open()
        assert session.wait(job).job.state == "completed"
        followed(lines, *(f"{one} has all of job {job[:8]}" for one in names))
        second = session.submit(measuring(tmp_path / "second", gate=0)).id
        assert session.wait(second).job.state == "completed"
        followed(lines, *(f"{one} has all of job {second[:8]}" for one in names))
    runs, boards = MLflowRuns(mlflow.uri), TensorBoardFolder(federation.prod / "boards")
    federation.server.stop()
    offline = WandBFolder(federation.server.kit / "work" / "tracking", monkeypatch)
    for each in (job, second):
        check(offline.seen(each), each)
        check(boards.seen(each), each)
        check(runs.seen(each), each)


def test_the_process_may_read_jobs_and_has_neither_a_key_nor_another_right(tracked, tmp_path):
    federation, _, lines = tracked
    with federation.session() as session:
        job = session.submit(measuring(tmp_path / "job", gate=0)).id
        assert session.wait(job).job.state == "completed"
        followed(lines, "goes to MLflow")
        found = trackers(federation)
        assert found
        inside = Path(f"/proc/{found[-1]}/root")
        assert (inside / "usr").exists()
        assert (inside / str(federation.server.kit / "work" / "tracking" / "tracked.json").lstrip("/")).exists()
        assert not (inside / str(federation.server.kit / "startup").lstrip("/")).exists()
        assert not (inside / str(federation.server.kit / "work" / "convoy.sqlite").lstrip("/")).exists()
