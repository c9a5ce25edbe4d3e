"""The examples of frameworks on a real federation of two sites, and simulated: the same bits."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.federation import Federation

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(400)]

EXAMPLES = Path(__file__).parents[2] / "examples"
REACHED = [  # example, the packages that it needs, a metric of the last round and what it is at least
    ("lightning", ("lightning", "sklearn"), "val_accuracy", 0.8),
    ("transformers", ("transformers", "accelerate", "sklearn"), "eval_accuracy", 0.5),
    ("lora", ("peft", "sklearn"), "accuracy", 0.9),
    ("torchrun", ("torch", "sklearn"), "accuracy", 0.9),
    ("jax_flax", ("flax", "optax", "sklearn"), "accuracy", 0.9),
    ("keras", ("keras", "jax", "sklearn"), "accuracy", 0.8),
]


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    made = Federation(tmp_path_factory.mktemp("frameworks"), sites=2)
    yield made.up()
    made.down()


@pytest.mark.parametrize(("example", "packages", "metric", "least"), REACHED, ids=[it[0] for it in REACHED])
def test_an_example_trains_on_real_processes_and_a_simulation_has_its_bits(
    federation, tmp_path, example, packages, metric, least
):
    for package in packages:
        if not importlib.util.find_spec(package):
            pytest.skip(f"{package} is not installed")
    with federation.session(300) as session:
        detail = session.wait(session.submit(EXAMPLES / example).id)
        lines = [f"{line.site} | {line.text}" for line in session.logs(detail.job.id)]
    assert detail.job.state == "completed", "\n".join([detail.job.cause, detail.traceback, *lines])
    assert all(len(made.took_part) == 2 for made in detail.rounds[1:])
    assert detail.job.metrics[metric] >= least
    workers = ["--workers", "1" if example == "keras" else "0"]  # a worker imports all once more: one example has it
    command = ["simulate", EXAMPLES / example, "--sites", ",".join(sorted(federation.nodes)), *workers]
    subprocess.run(  # in a process of its own, as JAX and others do not stand a fork of the tests' process
        [sys.executable, "-m", "convoy.cli.main", *command, "-o", tmp_path / "of"], check=True, timeout=200
    )
    simulated = json.loads((tmp_path / "of" / "rounds.json").read_text())
    assert simulated[-1]["model"] == detail.rounds[-1].model
