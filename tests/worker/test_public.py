"""What job authors import: held still, and light."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

import convoy

NAMES = {
    "Answers", "Ditto", "FLModel", "FedDyn", "FedNova", "Fleet", "Mean", "Model", "NotEnough", "ParamsType", "Proximal",
    "Reply", "Round", "Scaffold", "Stream", "Streaming", "Task", "Update",
    "aggregate", "config", "data", "evaluate", "get_job_id", "get_site_name",
    "init", "is_evaluate", "is_running", "is_train", "log", "metrics",
    "receive", "send", "simulate", "system_info", "tasks", "train",
}  # fmt: skip
HEAVY = ("grpc", "starlette", "pydantic", "torch", "yaml", "cryptography", "sqlalchemy", "structlog", "httpx", "rich")


def python(text: str) -> str:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_public_names_are_these() -> None:
    assert set(convoy.__all__) == NAMES
    assert set(dir(convoy)) >= NAMES


def test_every_public_name_is_there_and_none_brings_a_heavy_library() -> None:
    names = sorted(NAMES - {"config", "data", "simulate"})  # the last one reads job.yaml, and runs at no site
    assert (
        python(
            f"import sys, convoy\nfor name in {names}: getattr(convoy, name)\n"
            f"print([name for name in {HEAVY} if name in sys.modules])"
        )
        == "[]"
    )


def test_importing_convoy_alone_loads_nothing() -> None:
    assert python("import sys, convoy\nprint('numpy' in sys.modules, 'json' in sys.modules)") == "False False"


def test_a_script_that_no_node_runs_is_told_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import convoy\nfor task in convoy.tasks(): pass"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "this script is not run by a Convoy node" in done.stderr


def test_a_process_that_a_trainer_started_is_told_that_its_parent_is_connected() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import convoy\nconvoy.metrics({'loss': 1})"],
        env=os.environ | {"CONVOY_WORKER_FD": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "this process was started by a trainer or a workflow" in done.stderr
    assert "only the process that started it is connected to its node" in done.stderr


def test_the_version_is_the_distribution_s() -> None:
    assert convoy.__version__ == metadata.version("convoy-fl")


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(convoy, "nonsense")
