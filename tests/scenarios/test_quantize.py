"""Sites that send their updates with 8 or 16 bits an item: fewer bytes, the same mean, whatever is killed."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.scenarios.conftest import put_job

pytestmark = pytest.mark.scenario
SIZE = 300_000  # items of the model: 1.2 MB, which travels on a connection of its own
TRAIN = f"""
import numpy as np
import convoy


def initial():
    return {{"w": np.zeros({SIZE}, np.float32), "steps": np.zeros(1, np.int64)}}


@convoy.train
def train(task):
    if task.round == 2 and task.site == "site-2":
        with open(task.data["arrived"], "w") as arrived:
            arrived.write("here")
        with open(task.data["gate"]) as gate:
            gate.read()
    dice = np.random.default_rng([task.round, int(task.site[-1])])
    w = task.model["w"] + dice.standard_normal({SIZE}, dtype=np.float32)
    return convoy.Reply({{"w": w, "steps": task.model["steps"] + 1}}, weight=1)
"""


def expected(rounds):
    """Return the weights without any packing."""
    dice = [np.random.default_rng([number, site]) for number in range(1, rounds + 1) for site in (1, 2)]
    return sum(one.standard_normal(SIZE, dtype=np.float32) for one in dice) / 2


@pytest.mark.parametrize("victim", ["server", "site-1"])
def test_fewer_bytes_leave_and_a_kill_costs_nothing(victim, pair, tmp_path):
    federation, gates = pair, pair.gates
    for site, bits in (("site-1", 8), ("site-2", 16)):
        (federation.nodes[site].kit / "local" / "policy.yaml").write_text(
            f"filters: [{{quantize: {{bits: {bits}}}}}]\n"
        )
    folder = put_job(tmp_path / "job", {"train.py": TRAIN}, with_={"rounds": 3, "min_sites": 2})
    with federation.session() as session:
        job = session.submit(folder).id
        gates["site-2"].wait()
        node = federation.server if victim == "server" else federation.nodes[victim]
        node.kill()
        node.start()
        gates["site-2"].open()
    with federation.session() as session:
        detail = session.wait(job)
        assert detail.job.state == "completed", detail.job.cause
        assert [share.site for share in detail.rounds[-1].took_part] == ["site-1", "site-2"]
        files = {file.name: file for file in session.fetch(job, tmp_path / "results")}
        up = {share.site: share.cost.up for share in session.round(job, 3).took_part}
    assert SIZE < up["site-1"] < SIZE * 1.1  # bytes: one an item, and the scales
    assert SIZE * 2 < up["site-2"] < SIZE * 2.1
    model = load_file(files["model.safetensors"])
    apart = np.abs(model["w"] - expected(3))
    assert 0 < apart.max() < 3 * 5 / 127  # a step of each round's largest change, at one of the two sites
    assert apart.mean() < 0.02
    assert model["steps"].tolist() == [3]
