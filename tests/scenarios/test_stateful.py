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
PERSONAL = """
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(20_000, np.float32), "head": np.ones(20_000, np.float32)}


def draw(task):
    return np.random.default_rng(task.seed).standard_normal(20_000).astype(np.float32)


@convoy.train
def train(task):
    moved = {name: np.float32(0.5) * array + draw(task) for name, array in task.model.items()}
    match task.asked.helper:
        case "Ditto":
            mine = convoy.Ditto(task)
            pull = mine.gradient(mine.personal)
            moved["w"] += mine.personal["w"]  # so that another state would give another model
            return mine.reply(moved, {name: it + draw(task) - pull[name] for name, it in mine.personal.items()})
        case "FedDyn":
            mine = convoy.FedDyn(task)
            pull = mine.gradient(moved)
            return mine.reply({name: it - np.float32(0.1) * pull[name] for name, it in moved.items()})
    moved["w"] += task.model["head"]
    return moved
"""
SIZES = pytest.mark.parametrize("size", [1_000, 50_000], ids=["inside a message", "by a transfer"])


def disturbed(federation, session, job, *, rounds, seed):
    """Watch a job and kill processes of every kind on its way; return how it ended."""
    dice, due, killed = random.Random(seed), 2, 0  # noqa: S311 - of a test
    for progress in session.watch(job):
        if progress.job.state == "running" and progress.rounds and progress.rounds[-1].round >= due:
            killed += kill(federation, dice.choice(VICTIMS))
            due = progress.rounds[-1].round + dice.randint(2, max(3, rounds // 5))
    done = session.wait(job)
    assert done.job.state == "completed", done.job.cause
    assert killed >= 3
    return done


def assert_same_bits(federation, folder, *, rounds, seed):
    """Run a job undisturbed, and once more while processes are killed, to the same models; return the first run."""
    with federation.session(300) as session:
        calm = session.wait(session.submit(folder).id)
        assert calm.job.state == "completed", calm.job.cause
        done = disturbed(federation, session, session.submit(folder).id, rounds=rounds, seed=seed)
    assert [one.model for one in done.rounds] == [one.model for one in calm.rounds]
    return calm


@SIZES
def test_scaffold_has_the_same_bits_whatever_is_killed(pair, tmp_path, size):
    federation, files = pair, {"train.py": SCAFFOLD.format(size=size)}
    spec = {"workflow": "scaffold", "with_": {"rounds": 40, "min_sites": 2}, "patience": "60s"}
    assert_same_bits(federation, put_job(tmp_path / "job", files, **spec), rounds=40, seed=size)


STREAMING = """
import numpy as np
import convoy


def initial():
    return {f"layer-{place}": np.zeros(20_000) for place in range(3)}


def train(task):
    mine, rng = convoy.Streaming(task), np.random.default_rng(task.seed)
    return mine.reply({name: 0.5 * array + rng.standard_normal(array.shape) for name, array in mine.model.items()})
"""
SWARM = DRAWING.replace("import numpy as np", "import numpy as np\nfrom convoy import aggregate").replace(
    "1_000", "20_000"
)


@pytest.mark.parametrize(
    ("workflow", "train", "more"), [("diloco", STREAMING, {"fragments": 3}), ("swarm", SWARM, {"clip": 1.0})]
)
def test_fragments_and_a_swarm_have_the_same_bits_whatever_is_killed(pair, tmp_path, workflow, train, more):
    federation, files = pair, {"train.py": train}
    spec = {
        "workflow": workflow,
        "with_": {"rounds": 25, "min_sites": 2, **more},
        "patience": "60s",
        "trainer": "train.py:train",
        "seed": 5,
    }
    assert_same_bits(federation, put_job(tmp_path / "job", files, **spec), rounds=25, seed=3)


@pytest.mark.parametrize("workflow", ["fedavgm", "cyclic"])
def test_a_momentum_and_a_cycle_have_the_same_bits_whatever_is_killed(pair, tmp_path, workflow):
    federation, files = pair, {"train.py": DRAWING}
    spec = {
        "workflow": workflow,
        "with_": {"rounds": 30, "min_sites": 2},
        "patience": "60s",
        "trainer": "train.py:train",
        "seed": 5,
    }
    assert_same_bits(federation, put_job(tmp_path / "job", files, **spec), rounds=30, seed=3)


def test_clusters_of_tables_have_the_same_bits_whatever_is_killed(started, tmp_path):
    federation, dice = started(settings="data: {points: points.csv}"), np.random.default_rng(4)
    for node in federation.nodes.values():
        rows = "\n".join(f"{x!r},{y!r}" for x, y in dice.random((3_000, 2)).tolist())
        (node.kit / "local" / "points.csv").write_text(f"x,y\n{rows}\n")
    with_ = "{table: points, columns: [x, y], clusters: 20, seed: 1, rounds: 30, min_sites: 2}"
    job = tmp_path / "clusters"
    job.mkdir()
    (job / "job.yaml").write_text(f"name: clusters\nworkflow: kmeans\nwith: {with_}\npatience: 60s\n")
    calm = assert_same_bits(federation, job, rounds=25, seed=3)
    assert len(calm.rounds) > 20


@pytest.mark.parametrize(
    ("workflow", "more"), [("ditto", {"lam": 0.1}), ("feddyn", {"alpha": 0.5}), ("fedavg", {"keys": ["!head"]})]
)
def test_what_sites_keep_for_themselves_has_the_same_bits_whatever_is_killed(pair, tmp_path, workflow, more):
    federation, files = pair, {"train.py": PERSONAL}
    spec = {"workflow": workflow, "with_": {"rounds": 20, "min_sites": 2} | more, "patience": "60s", "seed": 5}
    assert_same_bits(federation, put_job(tmp_path / "job", files, **spec), rounds=20, seed=7)


NORMALISING = """
import numpy as np
import convoy


def initial():
    names = ("conv.weight", "bn1.weight", "bn1.running_mean", "bn1.running_var")
    return {name: np.zeros(20_000) for name in names}


@convoy.train
def train(task):
    if task.round == 2 and task.site == "site-2":
        with open(task.data["arrived"], "w") as arrived:
            arrived.write("here")
        with open(task.data["gate"]) as gate:
            gate.read()
    return {name: np.full(20_000, (1234.5 if name in task.private else 8765.5) + task.round) for name in task.model}
"""


def holders(node, number):
    """Return the files of a node in which this number is, twice in a row."""
    wanted = np.full(2, number).tobytes()
    return [file for file in node.kit.rglob("*") if file.is_file() and wanted in file.read_bytes()]


def test_layers_of_batch_normalisation_are_in_no_byte_that_a_server_receives(pair, tmp_path):
    federation, gates = pair, pair.gates
    spec = {"workflow": "cyclic", "with_": {"rounds": 2, "min_sites": 2, "keys": ["!@batchnorm"]}}
    with federation.session(120) as session:
        job = session.submit(put_job(tmp_path / "job", {"train.py": NORMALISING}, **spec)).id
        gates["site-2"].wait()  # it trains what site-1 has answered in this round
        for number in (1, 2):
            assert holders(federation.nodes["site-1"], 1234.5 + number)
            assert not holders(federation.server, 1234.5 + number)
            assert not holders(federation.nodes["site-2"], 1234.5 + 2)
        assert holders(federation.server, 8765.5 + 2)
        gates["site-2"].open()
        done = session.wait(job)
    assert done.job.state == "completed", done.job.cause
    assert not any(holders(federation.server, 1234.5 + number) for number in (1, 2))


def test_a_state_is_that_of_the_last_answer_that_counts_exactly_once(pair, tmp_path):
    federation, rounds = pair, 30
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


def test_an_asynchronous_workflow_goes_on_whatever_is_killed_and_its_record_explains_its_model(pair, tmp_path):
    federation, rounds = pair, 30
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


def test_optimisers_of_torch_that_stay_at_sites_have_the_same_bits_whatever_is_killed(pair, tmp_path):
    pytest.importorskip("torch")
    federation, files = pair, {"train.py": ADAM}
    spec = {"with_": {"rounds": 12, "min_sites": 2}, "patience": "60s", "seed": 5}
    assert_same_bits(federation, put_job(tmp_path / "job", files, **spec), rounds=12, seed=11)
