"""kill -9 of processes of every kind while workflow and sites keep states, and while answers come without a barrier."""

import random

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.attacks.test_settling import kill
from tests.scenarios.conftest import put_job

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(600)]

VICTIMS = ("server", "site-1", "site-2", "workflow", "trainer-1", "trainer-2")
SCAFFOLD = """
import numpy as np
import convoy

SIZE = {size}


def initial():
    return {{"w": np.zeros(SIZE, np.float32)}}


@convoy.train
def train(task):
    mine, number = convoy.Scaffold(task), np.float32(task.site[-1])
    w = mine.model["w"]
    for _ in range(3):
        w = w - np.float32(0.1) * (number * (w - number) + mine.correction["w"])
    return mine.reply({{"w": w}}, steps=3, lr=0.1, weight=number)
"""
ADAM = """
import torch
import convoy
import convoy.torch


def network():
    torch.manual_seed(1)
    return torch.nn.Linear(4, 1)


def initial():
    return convoy.torch.arrays(network())


@convoy.train
def train(task):
    net = network()
    adam = torch.optim.Adam(net.parameters(), lr=0.05)
    convoy.torch.load(net, task.model)
    convoy.torch.restore(task.state, adam=adam)
    dice = torch.Generator().manual_seed(task.seed)
    for _ in range(3):
        adam.zero_grad()
        (net(torch.randn(8, 4, generator=dice)) - int(task.site[-1])).square().mean().backward()
        adam.step()
    return convoy.Reply(convoy.torch.arrays(net), state=convoy.torch.keep(adam=adam))
"""
COUNTING = """
import numpy as np
import convoy

SIZE = {size}


def initial():
    return {{"w": np.zeros(SIZE, np.float32)}}


for task in convoy.tasks():
    count = task.state.get("count", np.zeros(1, np.int64)) + 1
    task.reply({{"w": task.model["w"] + 1}}, metrics={{"count": float(count[0])}}, state={{"count": count}})
"""
LOSSY = """
import numpy as np


async def run(fleet, rounds):
    async for round in fleet.rounds(rounds):
        total, counts = round.state.get("total", np.zeros(1)), {}
        async for update in fleet.ask("train", round.model, at_least=2):
            counts[update.site] = update.metrics["count"]
            if round.number % 3 == 0 and update.site == "site-2":
                update.leave_out("every third one of it")
        total = total + sum(counts.values())
        await round.commit(update.model, state={"total": total}, metrics={**counts, "total": total[0]})
"""
STREAM = """
import numpy as np


async def run(fleet, rounds):
    stream = fleet.stream("train")
    async for round in fleet.rounds(rounds):
        folded = [update async for update in stream.take(2, round.model)]
        model = np.float32(0.5) * round.model["w"] + sum(update.model["w"] for update in folded)
        names = {f"{place}-{it.site[-1]}": it.staleness for place, it in enumerate(folded)}
        await round.commit({"w": model}, metrics=names)
"""
DRAWING = """
import numpy as np


def initial():
    return {"w": np.zeros(1_000)}


def train(task):
    return {"w": 0.5 * task.model["w"] + np.random.default_rng(task.seed).standard_normal(1_000)}
"""
SIZES = pytest.mark.parametrize("size", [1_000, 50_000], ids=["inside a message", "by a transfer"])


def disturbed(federation, session, job, *, rounds, seed):
    """Watch a job and kill processes of every kind on its way; return how it ended."""
    dice, due, killed = random.Random(seed), 2, 0  # noqa: S311 - of a test
    for progress in session.watch(job):
        if progress.job.state == "running" and progress.rounds and progress.rounds[-1].round >= due:
            killed += kill(federation, dice.choice(VICTIMS))
            due = progress.rounds[-1].round + dice.randint(2, max(3, rounds // 8))
    done = session.wait(job)
    assert done.job.state == "completed", done.job.cause
    assert killed >= 3
    return done


@SIZES
def test_scaffold_has_the_same_bits_whatever_is_killed(started, tmp_path, size):
    federation, files = started(), {"train.py": SCAFFOLD.format(size=size)}
    spec = {"workflow": "scaffold", "with_": {"rounds": 40, "min_sites": 2}, "patience": "60s"}
    with federation.session(300) as session:
        calm = session.wait(session.submit(put_job(tmp_path / "calm", files, **spec)).id)
        assert calm.job.state == "completed", calm.job.cause
        job = session.submit(put_job(tmp_path / "killed", files, **spec)).id
        done = disturbed(federation, session, job, rounds=40, seed=size)
    assert [one.model for one in done.rounds] == [one.model for one in calm.rounds]


def test_optimisers_of_torch_that_stay_at_sites_have_the_same_bits_whatever_is_killed(started, tmp_path):
    pytest.importorskip("torch")
    federation, files = started(), {"train.py": ADAM}
    spec = {"with_": {"rounds": 25, "min_sites": 2}, "patience": "60s", "seed": 5}
    with federation.session(300) as session:
        calm = session.wait(session.submit(put_job(tmp_path / "calm", files, **spec)).id)
        assert calm.job.state == "completed", calm.job.cause
        job = session.submit(put_job(tmp_path / "killed", files, **spec)).id
        done = disturbed(federation, session, job, rounds=25, seed=11)
    assert [one.model for one in done.rounds] == [one.model for one in calm.rounds]


@pytest.mark.parametrize("workflow", ["fedavgm", "cyclic"])
def test_a_momentum_and_a_cycle_have_the_same_bits_whatever_is_killed(started, tmp_path, workflow):
    federation, files = started(), {"train.py": DRAWING}
    spec = {
        "workflow": workflow,
        "with_": {"rounds": 30, "min_sites": 2},
        "patience": "60s",
        "trainer": "train.py:train",
        "seed": 5,
    }
    with federation.session(300) as session:
        calm = session.wait(session.submit(put_job(tmp_path / "calm", files, **spec)).id)
        assert calm.job.state == "completed", calm.job.cause
        job = session.submit(put_job(tmp_path / "killed", files, **spec)).id
        done = disturbed(federation, session, job, rounds=30, seed=3)
    assert [one.model for one in done.rounds] == [one.model for one in calm.rounds]


def test_a_state_is_that_of_the_last_answer_that_counts_exactly_once(started, tmp_path):
    federation, rounds = started(), 30
    files = {"train.py": COUNTING.format(size=50_000), "flow.py": LOSSY}
    spec = {"workflow": "flow.py:run", "with_": {"rounds": rounds}, "patience": "60s"}
    with federation.session(300) as session:
        job = session.submit(put_job(tmp_path / "counting", files, **spec)).id
        next(it for it in session.watch(job) if it.rounds and it.rounds[-1].round > 2)
        detail = session.job(job)
        assert all(member.state_bytes > 0 for member in detail.members)
        assert detail.state_bytes > 0
        done = disturbed(federation, session, job, rounds=rounds, seed=5)
    counts, total = {"site-1": 0, "site-2": 0}, 0.0
    for made in done.rounds[1:]:
        for site, count in counts.items():
            assert made.metrics[site] == count + 1, (made.round, site)
        total += sum(counts.values()) + 2
        assert made.metrics["total"] == total
        counts["site-1"] += 1
        counts["site-2"] += made.round % 3 != 0  # the next task finds what was kept before that answer


def test_an_asynchronous_workflow_goes_on_whatever_is_killed_and_its_record_explains_its_model(started, tmp_path):
    federation, rounds = started(), 30
    files = {"train.py": COUNTING.format(size=1_000), "flow.py": STREAM}
    spec = {"workflow": "flow.py:run", "with_": {"rounds": rounds}, "patience": "60s"}
    with federation.session(300) as session:
        job = session.submit(put_job(tmp_path / "stream", files, **spec)).id
        done = disturbed(federation, session, job, rounds=rounds, seed=11)
        found = session.fetch(job, tmp_path / "results")
    models, w = [np.float32(0)], np.float32(0)
    for made in done.rounds[1:]:
        assert len(made.metrics) == 2, made.metrics
        w = np.float32(0.5) * w + sum(models[made.round - 1 - int(stale)] + 1 for stale in made.metrics.values())
        models.append(w)
    (last,) = [file for file in found if file.name == "model.safetensors"]
    np.testing.assert_allclose(load_file(last)["w"], w, rtol=1e-5)
