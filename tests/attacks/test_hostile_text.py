"""A job whose every text is an attack on whoever reads it: a terminal, a log, a file of results."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.federation import federation
from tests.scenarios.conftest import put_job

pytestmark = pytest.mark.scenario
NASTY = "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b31m\rgone\b\u202e\u2066\nerror: forged\n2026-01-01T00:00:00.000Z all is well"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
TRAIN = f"""
import numpy as np
import convoy

NASTY = {NASTY!a}


def initial():
    return {{"w": np.zeros(4, np.float32)}}


@convoy.train
def train(task):
    print(NASTY)
    print("\\u202e" * 5000)
    if task.round == 2:
        raise ValueError(NASTY)
    return convoy.Reply({{"w": task.model["w"]}}, metrics={{"loss": 1.0, NASTY[:20]: 1.0}})
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A federation in which such a job has failed, and its id."""
    folder = tmp_path_factory.mktemp("hostile-text")
    with federation(folder / "fed", sites=1) as made, made.session() as session:
        job = put_job(folder / "nasty", {"train.py": TRAIN}, with_={"rounds": 3, "min_sites": 1})
        yield made, session.wait(session.submit(job).id), folder


def typed(ended, *words):
    made, _, folder = ended
    env = os.environ | {
        "CONVOY_KIT": str(made.prod / "ada@example.org"),
        "CONVOY_SERVER": f"localhost:{made.admin_port}",
        "PYTHONIOENCODING": "utf-8",
    }
    command = [sys.executable, "-m", "convoy.cli.main", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=100, check=False)


def test_the_texts_came_as_far_as_the_server(ended):
    detail = ended[1]
    assert detail.job.state == "failed"
    assert "\x1b]52" in detail.traceback


@pytest.mark.parametrize(
    "verb", ["job show", "job logs", "job watch", "job list", "problems", "site list", "audit show"]
)
def test_nothing_that_a_job_prints_reaches_a_terminal_or_a_file_raw(ended, verb):
    job = ended[1].job.id
    words = verb.split() + ([job] if verb in ("job show", "job logs", "job watch") else [])
    said = typed(ended, *words)
    for text in (said.stdout.decode(), said.stderr.decode()):
        assert RAW.search(text) is None
        lines = text.splitlines()
        assert not [line for line in lines if line.startswith("error: forged")]
        assert "2026-01-01T00:00:00.000Z all is well" not in lines


def test_json_for_programs_has_the_text_as_it_is_and_no_raw_character(ended):
    said = typed(ended, "job", "show", ended[1].job.id, "--json").stdout.decode()
    assert RAW.search(said) is None
    assert "\x1b]52" in json.loads(said)["traceback"]


def test_logs_of_nodes_and_jobs_and_the_files_of_results_hold_nothing_raw(ended):
    made, detail, folder = ended
    assert typed(ended, "job", "fetch", detail.job.id, "-o", "out").returncode == 0
    logs = [
        *made.prod.glob("*/work/node.log"),
        *made.prod.glob("server/work/**/*.log"),
        *Path(folder / "out").rglob("*.log"),
    ]
    assert len(logs) >= 3
    for log in logs:
        text = log.read_bytes().decode()
        assert RAW.search(text) is None, log
        assert not [
            line for line in text.splitlines() if line.startswith(("error: forged", "2026-01-01T00:00:00.000Z"))
        ]
