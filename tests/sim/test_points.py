"""Live metrics of a simulation: in its results for any number of workers, and in `convoy.testing`."""

import json

import numpy as np
import pytest

import convoy
import convoy.testing

FUNCTION = """
import numpy as np
import convoy

def initial():
    return {"w": np.zeros(2, np.float32)}

def train(task):
    for step in range(3):
        convoy.metrics({"loss": 1 / (1 + step)}, step=3 * task.round + step, phase="train")
    return convoy.Reply(task.model, weight=1)
"""
LOOP = """
import numpy as np
import convoy
from convoy.tracking import SummaryWriter

def initial():
    return {"w": np.zeros(2, np.float32)}

writer = SummaryWriter()
for task in convoy.tasks():
    writer.add_scalar("loss", 0.5, global_step=task.round)
    task.reply(task.model)
writer.add_scalar("final", 1.0)
"""
FLOW = """
import convoy

async def run(fleet):
    async for round in fleet.rounds(2):
        mean = convoy.Mean(like=round.model)
        async for update in fleet.ask("train", round.model):
            mean.add(update)
        convoy.metrics({"sites": 3})
        await round.commit(mean.result())
"""


def simulated(folder, code, trainer, workers, results, flow="flow.py:run"):
    folder.mkdir(exist_ok=True)
    job = {"name": "measures", "workflow": flow, "trainer": trainer, "model": "first.py:initial"}
    (folder / "job.yaml").write_text(json.dumps(job))
    (folder / "train.py").write_text(code)
    (folder / "first.py").write_text(FUNCTION)
    (folder / "flow.py").write_text(FLOW)
    done = convoy.simulate(folder, sites=3, workers=workers, results=results, progress=False)
    found = {}
    for file in sorted((done.folder / "points").iterdir()):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["n"] for line in lines] == list(range(len(lines)))
        found[file.stem] = [(line["round"], line.get("step"), line["values"]) for line in lines]
    return found


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("code", "trainer"), [(FUNCTION, "train.py:train"), (LOOP, "train.py")])
def test_points_of_each_site_and_of_the_workflow_are_in_the_results(tmp_path, workers, code, trainer):
    found = simulated(tmp_path / "job", code, trainer, workers, tmp_path / "results")
    own = found.pop("server")
    assert [(round_, step) for round_, step, _ in own] == [(1, None), (2, None)]
    if code == FUNCTION:
        each = [(n, 3 * n + step, {"loss": 1 / (1 + step)}) for n in (1, 2) for step in range(3)]
    else:
        each = [(1, 1, {"loss": 0.5}), (2, 2, {"loss": 0.5}), (2, None, {"final": 1.0})]
    assert list(found.values()) == [each] * 3


def test_a_test_of_a_job_finds_what_its_trainers_and_its_workflow_measured():
    def train(task):
        convoy.metrics({"loss": task.data["loss"] / task.round}, phase="train")
        return convoy.Reply(task.model)

    async def run(fleet):
        async for round_ in fleet.rounds(2):
            async for update in fleet.ask("train", round_.model):
                convoy.metrics({"weight": update.weight}, step=round_.number)
            await round_.commit(round_.model)

    sites = {"a": {"loss": 1.0}, "b": {"loss": 2.0}}
    points = convoy.testing.run(run, train, sites=sites, model={"w": np.zeros(2)}).points
    assert {site: [(it.number, it.round, dict(it.values)) for it in found] for site, found in points.items()} == {
        "a": [(0, 1, {"loss": 1.0}), (1, 2, {"loss": 0.5})],
        "b": [(0, 1, {"loss": 2.0}), (1, 2, {"loss": 1.0})],
        "server": [(0, 1, {"weight": 1.0}), (1, 1, {"weight": 1.0}), (2, 2, {"weight": 1.0}), (3, 2, {"weight": 1.0})],
    }
