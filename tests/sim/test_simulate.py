"""A simulation: the same bits for each number of workers, and the same as a federation; each site's own modules."""

import errno
import json
import signal
from pathlib import Path

import numpy as np
import pytest

from convoy.errors import BadInput
from convoy.flows import catalog
from convoy.sim.plan import read_plan
from convoy.sim.run import run as simulate
from convoy.sim.workers import WorkerChoice
from convoy.store.arrays import read_file
from tests.federation import federation
from tests.scenarios.conftest import put_job
from tests.sim.typed import typed

TRAIN = """
import numpy as np
import convoy
from convoy import aggregate


def initial():
    return {"w": np.zeros(50), "b": np.zeros((3, 2), np.float32)}


def draw(task):
    return np.random.default_rng(task.seed)


def train(task):
    dice = draw(task)
    arrays = {name: array + dice.standard_normal(array.shape).astype(array.dtype) for name, array in task.model.items()}
    print("trained at", task.site)
    return convoy.Reply(arrays, weight=1 + dice.integers(9), metrics={"loss": dice.random()})


def streaming(task):
    mine, dice = convoy.Streaming(task), draw(task)
    return mine.reply({name: (array + dice.random()).astype(array.dtype) for name, array in mine.model.items()})


def scaffold(task):
    mine = convoy.Scaffold(task)
    dice = draw(task)
    after = {name: array - 0.1 * (dice.standard_normal(array.shape) + mine.correction.get(name, 0)).astype(array.dtype)
             for name, array in mine.model.items()}
    return mine.reply(after, steps=5, lr=0.1)


def evaluate(task):
    return {"sum": float(task.model["w"].sum())}


def proximal(task):
    term, after = convoy.Proximal(task), train(task).arrays
    return {name: array - 0.1 * term.gradient(after)[name] for name, array in after.items()}


def rows(task):
    x = draw(task).normal(size=(80, 3))
    return x, (x[:, 0] > 0).astype(int)


def histograms(task):
    x = np.random.default_rng([ord(letter) for letter in task.site]).normal(size=(80, 3))
    return convoy.trees.histograms(task, x, x[:, 0] > 0)


def boost(task):
    return convoy.trees.boost(task, *rows(task))


def forest(task):
    from sklearn.ensemble import RandomForestClassifier

    grown = RandomForestClassifier(task.settings["trees"], random_state=task.seed)
    return convoy.trees.forest(task, grown.fit(*rows(task)))


def layers():
    return {"conv.weight": np.zeros(9), "bn1.weight": np.ones(3), "bn1.running_mean": np.zeros(3, np.float32),
            "bn1.running_var": np.ones(3, np.float32), "head": np.zeros(4)}


def nova(task):
    mine, dice = convoy.FedNova(task), draw(task)
    reply = train(task)
    return mine.reply(reply.arrays, steps=int(dice.integers(1, 9)), momentum=0.5, weight=reply.weight)


def dyn(task):
    mine, after = convoy.FedDyn(task), train(task).arrays
    return mine.reply({name: array - 0.1 * mine.gradient(after)[name] for name, array in after.items()})


def ditto(task):
    mine, dice = convoy.Ditto(task), draw(task)
    own = {name: array - (0.1 * mine.gradient(mine.personal)[name] + dice.random()).astype(array.dtype)
           for name, array in mine.personal.items()}
    return mine.reply(train(task).arrays, own, metrics={"own": float(own["w"].sum())})


def adapters():
    return {"l.lora_A.weight": np.ones((2, 4), np.float32), "l.lora_B.weight": np.ones((3, 2), np.float32)}


def adapted(task):
    return {name: task.model[name] if "residual" in name else array for name, array in train(task).arrays.items()}
"""
WORKFLOWS = {
    "fedavg": {"with_": {"rounds": 3, "min_sites": 2}},
    "a sample": {"with_": {"rounds": 4, "sample": 1, "min_sites": 1}},
    "fedadam": {"workflow": "fedadam", "with_": {"rounds": 3, "min_sites": 2}},
    "fedavgm": {"workflow": "fedavgm", "with_": {"rounds": 3, "min_sites": 2}},
    "fedyogi": {"workflow": "fedyogi", "with_": {"rounds": 3, "min_sites": 2}},
    "fedadagrad": {"workflow": "fedadagrad", "with_": {"rounds": 3, "min_sites": 2}},
    "fedprox": {
        "workflow": "fedprox",
        "with_": {"rounds": 3, "min_sites": 2, "mu": 0.5},
        "trainer": "train.py:proximal",
    },
    "scaffold": {"workflow": "scaffold", "with_": {"rounds": 3, "min_sites": 2}, "trainer": "train.py:scaffold"},
    "fednova": {"workflow": "fednova", "with_": {"rounds": 3, "min_sites": 2}, "trainer": "train.py:nova"},
    "feddyn": {"workflow": "feddyn", "with_": {"rounds": 3, "min_sites": 2}, "trainer": "train.py:dyn"},
    "ditto": {"workflow": "ditto", "with_": {"rounds": 3, "min_sites": 2}, "trainer": "train.py:ditto"},
    "fedbn": {"workflow": "fedbn", "with_": {"rounds": 3, "min_sites": 2}, "model": "train.py:layers"},
    "keys": {"with_": {"rounds": 3, "min_sites": 2, "evaluate": True, "keys": ["!b"]}},
    "keys of a scaffold": {
        "workflow": "scaffold",
        "with_": {"rounds": 3, "min_sites": 2, "keys": ["w"]},
        "trainer": "train.py:scaffold",
    },
    "fedex_lora": {
        "workflow": "fedex_lora",
        "with_": {"rounds": 3, "min_sites": 2},
        "trainer": "train.py:adapted",
        "model": "train.py:adapters",
    },
    "diloco": {"workflow": "diloco", "with_": {"rounds": 3, "min_sites": 2}},
    "fragments": {
        "workflow": "diloco",
        "with_": {"rounds": 3, "min_sites": 2, "fragments": 2},
        "trainer": "train.py:streaming",
    },
    "swarm": {"workflow": "swarm", "with_": {"rounds": 3, "min_sites": 2}},
    "cyclic": {"workflow": "cyclic", "with_": {"rounds": 3, "min_sites": 2, "order": "random"}},
    "cross_site": {"workflow": "cross_site", "with_": {"min_sites": 2}},
    "xgboost_histogram": {
        "workflow": "xgboost_histogram",
        "with_": {"features": 3, "rounds": 3, "min_sites": 2},
        "trainer": "train.py:histograms",
        "model": None,
    },
    "xgboost_bagging": {
        "workflow": "xgboost_bagging",
        "with_": {"features": 3, "rounds": 3, "min_sites": 2},
        "trainer": "train.py:boost",
        "model": None,
    },
    "random_forest": {
        "workflow": "random_forest",
        "with_": {"features": 3, "classes": 2, "rounds": 2, "trees_per_site": 5, "min_sites": 2},
        "trainer": "train.py:forest",
        "model": None,
    },
}
BY_ARRIVAL = {
    "fedbuff": {"workflow": "fedbuff", "with_": {"rounds": 6, "buffer": 2, "min_sites": 3}},
    "fedasync": {"workflow": "fedasync", "with_": {"rounds": 6, "min_sites": 3}},
}
LOOP = """
import numpy as np
import convoy

count = 0
for task in convoy.tasks():
    count += 1
    task.reply({"w": task.model["w"] + count})
print("taken:", count)
"""


def job(folder, **more):
    known = {"trainer": "train.py:train", "model": "train.py:initial"}
    return put_job(folder, {"train.py": TRAIN}, **known | more)


def digest(done):
    assert done.job.state == "completed", done.job.cause
    return done.rounds[-1].model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with federation(tmp_path_factory.mktemp("federation") / "fed") as running:
        yield running


@pytest.mark.scenario
@pytest.mark.parametrize("spec", WORKFLOWS.values(), ids=WORKFLOWS.keys())
def test_the_model_is_that_of_a_federation_for_each_number_of_workers(made, tmp_path, spec):
    folder = job(tmp_path / "job", **spec)
    plan = read_plan(folder, sites=2)
    found = {workers: digest(simulate(plan, tmp_path / f"of-{workers}", workers=workers)) for workers in (0, 1, 2)}
    with made.session() as session:
        real = session.wait(session.submit(folder).id)
    assert real.job.state == "completed", real.job.cause
    assert set(found.values()) == {real.rounds[-1].model}


def test_each_built_in_workflow_is_among_those_that_are_compared():
    compared = {spec.get("workflow", "fedavg") for spec in (WORKFLOWS | BY_ARRIVAL).values()}
    of_tables = {
        name for name, entry in catalog.BUILT_IN.items() if entry.own_trainer
    }  # see tests/e2e/test_examples.py
    assert compared | of_tables == set(catalog.BUILT_IN)


@pytest.mark.parametrize("spec", BY_ARRIVAL.values(), ids=BY_ARRIVAL.keys())
def test_where_answers_count_as_they_arrive_the_model_is_the_same_for_each_number_of_workers(tmp_path, spec):
    plan = read_plan(job(tmp_path / "job", **spec), sites=5)  # at sites of a federation they would arrive otherwise
    assert len({digest(simulate(plan, tmp_path / f"of-{workers}", workers=workers)) for workers in (0, 1, 2)}) == 1


def test_more_workers_than_two_and_more_sites_give_the_same_bits(tmp_path):
    plan = read_plan(job(tmp_path / "job", with_={"rounds": 2, "min_sites": 30}), sites=30)
    found = {digest(simulate(plan, tmp_path / f"of-{workers}", workers=workers)) for workers in (0, 1, 8)}
    assert len(found) == 1
    assert "trained at site-07" in (tmp_path / "of-8" / "logs" / "site-07.log").read_text()
    assert [one["round"] for one in json.loads((tmp_path / "of-8" / "rounds.json").read_text())] == [0, 1, 2]
    assert read_file(tmp_path / "of-8" / "model.safetensors")["w"].shape == (50,)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loop_of_tasks_with_a_part_of_the_model_makes_the_rest_itself_and_takes_each_task_once(tmp_path, workers):
    script = """
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(3), "head": np.full(2, 5.0)}


for task in convoy.tasks():
    print("round", task.round, task.model["head"][0], sorted(task.private))
    task.reply({name: array + 1 for name, array in task.model.items()})
"""
    spec = {"with_": {"rounds": 3, "keys": ["w"]}, "trainer": "train.py", "model": "train.py:initial"}
    folder = put_job(tmp_path / "job", {"train.py": script}, **spec)
    done = simulate(read_plan(folder, sites=2), tmp_path / "results", workers=workers)
    digest(done)
    for site in ("site-1", "site-2"):
        printed = (tmp_path / "results" / "logs" / f"{site}.log").read_text().splitlines()
        assert printed == [f"round {at} {4.0 + at} ['head']" for at in (1, 2, 3)]
    assert list(read_file(tmp_path / "results" / "model.safetensors")) == ["w"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_of_another_job_gives_another_model(tmp_path, workers):
    plans = [read_plan(job(tmp_path / f"job-{seed}", name="job", seed=seed), sites=3) for seed in (1, 2, 1)]
    found = [digest(simulate(plan, tmp_path / f"of-{at}", workers=workers)) for at, plan in enumerate(plans)]
    assert found[0] == found[2] != found[1]


CACHING = """
import numpy as np

SEEN = []


def initial():
    return {"w": np.zeros(1)}


def train(task):
    SEEN.append(task.site)
    assert set(SEEN) == {task.site}, SEEN
    return {"w": task.model["w"] + 1}
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_site_keeps_in_a_module_no_other_site_sees(tmp_path, workers):
    folder = put_job(tmp_path / "job", {"train.py": CACHING}, trainer="train.py:train", with_={"rounds": 2})
    done = simulate(read_plan(folder, sites=5), tmp_path / "results", workers=workers)
    digest(done)
    assert [len(made.took_part) for made in done.rounds[1:]] == [5, 5]


REBINDING = {
    "a number, twice": "    global NUMBER\n    NUMBER = NUMBER + 1.5\n    NUMBER = NUMBER + 1.5\n    kept = NUMBER\n",
    "a class": "    Net.count = Net.count + 1.5\n    kept = Net.count\n",
    "a closure": "    kept = add()\n",
    "a function": "    train.kept = getattr(train, 'kept', 0.0) + 1\n    kept = train.kept\n",
}
HOLDING = """
import numpy as np

NUMBER = 1.0


class Net:
    count = 0.5


def counter():
    total = 2.5
    def add():
        nonlocal total
        total = total + 1
        return total
    return add


add = counter()


def initial():
    return {"w": np.zeros(1)}


def train(task):
DEED
    return {"w": task.model["w"] * 0 + kept}
"""


@pytest.mark.parametrize("deed", REBINDING.values(), ids=REBINDING.keys())
def test_what_a_task_changes_in_a_module_the_tasks_of_other_sites_do_not_find(tmp_path, deed):
    files = {"train.py": HOLDING.replace("DEED\n", deed)}
    plan = read_plan(put_job(tmp_path / "job", files, trainer="train.py:train", with_={"rounds": 1}), sites=4)
    one = read_plan(tmp_path / "job", sites=1)
    together, alone = (simulate(it, tmp_path / f"of-{len(it.sites)}", workers=0) for it in (plan, one))
    assert digest(together) == digest(alone)


FLARE = """
IMPORT
import convoy as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    print("params are of", type(model.params["w"]).__module__)
    flare.send(flare.FLModel(params=model.params))
"""


@pytest.mark.parametrize(("line", "kind"), [("import numpy", "numpy"), ("from torch import nn", "torch")])
def test_a_script_of_nvidia_flare_gets_tensors_of_torch_if_it_imports_torch_itself(tmp_path, line, kind):
    import torch  # noqa: F401 - another user of this process has imported it

    files = {
        "train.py": FLARE.replace("IMPORT", line),
        "first.py": "import numpy\n\ndef make():\n    return {'w': numpy.zeros(2)}\n",
    }
    folder = put_job(tmp_path / "job", files, model="first.py:make", with_={"rounds": 1, "min_sites": 1})
    done = simulate(read_plan(folder, sites=1), tmp_path / "out", workers=0)
    assert f"params are of {kind}" in (done.folder / "logs" / "site-1.log").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loop_of_tasks_goes_on_at_each_site_and_what_follows_it_is_done(tmp_path, workers):
    files = {"loop.py": LOOP, "train.py": "import numpy as np\ndef initial():\n    return {'w': np.zeros(1)}\n"}
    folder = put_job(tmp_path / "job", files, trainer="loop.py", with_={"rounds": 3})
    digest(simulate(read_plan(folder, sites=4), tmp_path / "results", workers=workers))
    assert read_file(tmp_path / "results" / "model.safetensors")["w"].tolist() == [6.0]
    for number in range(1, 5):
        assert "taken: 3" in (tmp_path / "results" / "logs" / f"site-{number}.log").read_text()


FAILING = CACHING.replace("    SEEN.append(task.site)\n", "    if task.site == 'site-2':\n        DEED\n").replace(
    "    assert set(SEEN) == {task.site}, SEEN\n", ""
)
DEEDS = {"raise ValueError('no data today')": "ValueError: no data today", "import sys; sys.exit(3)": "sys.exit(3)"}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("deed", "said"), DEEDS.items(), ids=["raises", "exits"])
def test_a_trainer_that_fails_at_one_site_is_left_out_by_name(tmp_path, deed, said, workers):
    folder = put_job(tmp_path / "job", {"train.py": FAILING.replace("DEED", deed)}, trainer="train.py:train")
    done = simulate(read_plan(folder, sites=3), tmp_path / "results", workers=workers)
    digest(done)
    (out,) = done.rounds[-1].left_out
    assert out[0] == "site-2"
    assert said in out[1]


def test_a_worker_that_dies_costs_the_task_that_it_died_at_and_no_other(tmp_path):
    files = {"train.py": FAILING.replace("DEED", "import os; os._exit(7)")}
    folder = put_job(tmp_path / "job", files, trainer="train.py:train", with_={"rounds": 2})
    done = simulate(read_plan(folder, sites=6), tmp_path / "results", workers=2)
    digest(done)
    for made in done.rounds[1:]:
        assert [site for site, _ in made.left_out] == ["site-2"]
        assert "the trainer died at this task: exit code 7" in made.left_out[0][1]
        assert len(made.took_part) == 5


@pytest.mark.parametrize(
    ("name", "shell", "seen"),
    [
        ("OMP_WAIT_POLICY", None, "PASSIVE"),
        ("OMP_WAIT_POLICY", "ACTIVE", "ACTIVE"),
        ("OPENBLAS_THREAD_TIMEOUT", None, "20"),
        ("OPENBLAS_THREAD_TIMEOUT", "26", "26"),
    ],
)
def test_threads_that_wait_for_each_other_sleep_unless_the_shell_says_otherwise(
    tmp_path, monkeypatch, name, shell, seen
):
    monkeypatch.delenv(name, raising=False)
    if shell is not None:
        monkeypatch.setenv(name, shell)
    printing = CACHING.replace("    SEEN.append(task.site)\n", f"    print(__import__('os').environ[{name!r}])\n")
    files = {"train.py": printing.replace("    assert set(SEEN) == {task.site}, SEEN\n", "")}
    folder = put_job(tmp_path / "job", files, trainer="train.py:train", with_={"rounds": 1})
    simulate(read_plan(folder, sites=2), tmp_path / "results", workers=2)
    assert (tmp_path / "results" / "logs" / "site-1.log").read_text() == f"{seen}\n"


def test_a_worker_that_cannot_be_started_fails_the_visits_that_wait_for_it(tmp_path):
    class Refusing:
        async def launch(self, order, output, waits):
            raise BlockingIOError(errno.EAGAIN, "no more processes")

    folder = put_job(tmp_path / "job", {"train.py": CACHING}, trainer="train.py:train", with_={"rounds": 1})
    choice = WorkerChoice(2, launcher=Refusing())
    done = simulate(read_plan(folder, sites=3), tmp_path / "results", workers=choice)
    assert done.job.state == "failed"
    assert "a worker could not be started: [Errno 11] no more processes" in done.job.cause


def test_a_worker_reads_nothing_but_the_data_that_was_named(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    reading = CACHING.replace(
        "    SEEN.append(task.site)\n", f"    print(open({str(tmp_path / 'secret.txt')!r}).read())\n"
    )
    files = {"train.py": reading.replace("    assert set(SEEN) == {task.site}, SEEN\n", "")}
    folder = put_job(tmp_path / "job", files, trainer="train.py:train")
    done = simulate(read_plan(folder, sites=2), tmp_path / "results", workers=2)
    assert done.job.state == "failed"
    assert "FileNotFoundError" in done.job.cause or "PermissionError" in done.job.cause
    assert "secret\n" not in (tmp_path / "results" / "logs" / "site-1.log").read_text()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_everything_and_leaves_what_was_committed(tmp_path, workers, sign):
    (tmp_path / "temporary").mkdir()
    folder = job(tmp_path / "job", with_={"rounds": 100_000, "min_sites": 3})
    words = [folder, "--sites", "3", "-o", "results", "--workers", str(workers)]
    with typed(tmp_path, *words, TMPDIR=str(tmp_path / "temporary")) as running:
        assert "round 1/" in running.stdout.readline()
        running.send_signal(sign)
        _, said = running.communicate()
    assert running.returncode == 1, said
    assert "aborted by an interrupt" in said
    assert not [*(tmp_path / "temporary").iterdir()]
    rounds = json.loads((tmp_path / "results" / "rounds.json").read_text())
    assert json.loads((tmp_path / "results" / "job.json").read_text())["state"] == "aborted"
    assert (tmp_path / "results" / "model.safetensors").is_file()
    assert rounds[-1]["round"] >= 1


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("trainer", ["train.py:train", "loop.py"])
def test_ctrl_c_ends_a_trainer_that_hangs(tmp_path, workers, trainer):
    hangs = "    if task.round == 2:\n        threading.Event().wait()\n"
    train = f"import threading\n\n\ndef train(task):\n{hangs}    return task.model\n"
    loop = f"import threading\nimport convoy\n\nfor task in convoy.tasks():\n{hangs}    task.reply(task.model)\n"
    train += "\n\ndef initial():\n    import numpy\n    return {'w': numpy.zeros(1)}\n"
    known = {"trainer": trainer, "model": "train.py:initial", "with_": {"rounds": 3, "min_sites": 3}}
    folder = put_job(tmp_path / "job", {"train.py": train, "loop.py": loop}, **known)
    words = [folder, "--sites", "3", "-o", "results", "--workers", str(workers)]
    with typed(tmp_path, *words) as running:
        assert "round 1/3" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate()
    assert running.returncode == 1, said
    assert "aborted by an interrupt" in said
    assert [one["round"] for one in json.loads((tmp_path / "results" / "rounds.json").read_text())] == [0, 1]


def test_a_workflow_that_fails_leaves_what_was_committed_and_says_why(tmp_path):
    rounds = "    async for turn in fleet.rounds(3):\n        await turn.commit({'w': 1 / (2 - turn.number)})\n"
    flow = f"async def run(fleet):\n{rounds}"
    folder = put_job(tmp_path / "job", {"train.py": CACHING, "flow.py": flow}, workflow="flow.py:run")
    done = simulate(read_plan(folder, sites=1), tmp_path / "results", workers=0)
    assert (done.job.state, done.job.cause) == ("failed", "ZeroDivisionError: division by zero")
    assert "flow.py" in done.job.traceback
    assert read_file(tmp_path / "results" / "model.safetensors")["w"].tolist() == 1.0


def test_each_site_has_its_own_data_and_a_file_is_for_all(tmp_path):
    (tmp_path / "parts").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "parts" / f"{name}.txt").write_text(name)
    (tmp_path / "all.txt").write_text("x")
    reading = CACHING.replace(
        "    SEEN.append(task.site)\n", "    print(*(open(p).read() for p in task.data.values()))\n"
    )
    files = {"train.py": reading.replace("    assert set(SEEN) == {task.site}, SEEN\n", "")}
    folder = put_job(tmp_path / "job", files | {"simulate.yaml": "data: {part: ../parts}\n"}, trainer="train.py:train")
    plan = read_plan(folder, data={"all": tmp_path / "all.txt"})
    digest(simulate(plan, tmp_path / "results", workers=2))
    logs = [(tmp_path / "results" / "logs" / f"site-{number}.log").read_text().splitlines()[0] for number in (1, 2, 3)]
    assert logs == ["a x", "b x", "c x"]


@pytest.mark.parametrize(
    ("stated", "given", "said"),
    [
        (None, {}, "nobody says how many sites"),
        ("sites: many\n", {}, r'simulate.yaml:1.*"sites" is "many"'),
        ("site: 3\n", {}, "simulate.yaml:1"),
        ("data: {x: nowhere}\n", {"sites": 2}, "the data 'x' is not there"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_its_line(tmp_path, stated, given, said):
    files = {"train.py": CACHING} | ({"simulate.yaml": stated} if stated else {})
    folder = put_job(tmp_path / "job", files, trainer="train.py:train")
    with pytest.raises(BadInput, match=said):
        read_plan(folder, **given)


def test_entries_of_a_folder_go_to_the_sites_of_their_names_or_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "parts").mkdir()
    for number in range(1, 13):
        (tmp_path / "parts" / f"site-{number}.csv").write_text("")
    folder = job(tmp_path / "job")
    for sites, wanted in (
        (["site-2", "site-10"], {"site-2": "site-2.csv", "site-10": "site-10.csv"}),
        (["a", "b"], {"a": "site-1.csv", "b": "site-2.csv"}),
        (12, {"site-02": "site-2.csv", "site-10": "site-10.csv"}),
    ):
        plan = read_plan(folder, sites=sites, data={"x": tmp_path / "parts"})
        assert {site: Path(plan.data[site]["x"]).name for site in wanted} == wanted


@pytest.mark.parametrize("workers", [0, 1])
def test_bytes_that_a_trainer_prints_are_in_its_log(tmp_path, workers):
    body = "    sys.stdout.buffer.write(b'raw')\n    print('text')\n    return task.model\n"
    train = f"import sys\n\n\ndef train(task):\n{body}"
    files = {"train.py": train + "\n\ndef initial():\n    import numpy\n    return {'w': numpy.zeros(1)}\n"}
    spec = {"trainer": "train.py:train", "model": "train.py:initial", "with_": {"rounds": 1}}
    simulate(read_plan(put_job(tmp_path / "job", files, **spec), sites=1), tmp_path / "out", workers=workers)
    assert sorted(c for c in (tmp_path / "out" / "logs" / "site-1.log").read_text()) == sorted("rawtext\n")


def test_data_that_is_not_there_is_said_in_words_of_a_simulation(tmp_path):
    files = {
        "train.py": TRAIN.replace(
            "    dice = draw(task)\n    arrays", "    task.data['rows']\n    dice = draw(task)\n    arrays"
        )
    }
    folder = put_job(tmp_path / "job", files, trainer="train.py:train", model="train.py:initial", with_={"rounds": 1})
    done = simulate(read_plan(folder, sites=2), tmp_path / "out", workers=0)
    assert "--data rows=PATH" in (tmp_path / "out" / "logs" / "site-1.log").read_text()
    assert done.job.state == "failed"


def test_results_never_go_into_a_folder_that_holds_something(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine").write_text("mine")
    with pytest.raises(BadInput, match="is not an empty folder"):
        simulate(read_plan(job(tmp_path / "job"), sites=2), tmp_path / "results")
    np.testing.assert_array_equal([one.name for one in (tmp_path / "results").iterdir()], ["mine"])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_sites_that_give_the_same_large_arrays_all_count(tmp_path, workers):
    same = "import numpy as np\n\n\ndef train(task):\n    return {'w': np.full(100_000, task.round / 2)}\n"
    files = {"train.py": same + "\n\ndef initial():\n    return {'w': np.zeros(100_000)}\n"}
    spec = {"trainer": "train.py:train", "model": "train.py:initial", "with_": {"rounds": 3, "min_sites": 1}}
    done = simulate(read_plan(put_job(tmp_path / "job", files, **spec), sites=6), tmp_path / "out", workers=workers)
    assert [(len(made.took_part), made.left_out) for made in done.rounds[1:]] == [(6, ())] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_an_asynchronous_workflow_ends_while_its_sites_still_work(tmp_path, workers):
    spec = {"workflow": "fedbuff", "with_": {"rounds": 60, "buffer": 2, "min_sites": 1}}
    plan = read_plan(job(tmp_path / "job", **spec), sites=40)
    done = simulate(plan, tmp_path / "out", workers=workers)
    assert done.job.state == "completed", done.job.cause
    assert not [made.left_out for made in done.rounds if made.left_out]  # each had its model, however old
    assert done.rounds[-1].model == simulate(plan, tmp_path / "of-0", workers=0).rounds[-1].model


def test_a_trainer_that_hangs_is_ended_after_the_jobs_patience_and_the_others_go_on(tmp_path):
    hangs = "    while task.site == 'site-2' and task.round == 1:\n        pass\n"
    train = f"def train(task):\n{hangs}    return task.model\n\n\ndef initial():\n"
    files = {"train.py": train + "    import numpy\n\n    return {'w': numpy.zeros(1)}\n"}
    spec = {"trainer": "train.py:train", "model": "train.py:initial", "patience": "3s"}
    folder = put_job(tmp_path / "job", files, with_={"rounds": 2, "min_sites": 1}, **spec)
    done = simulate(read_plan(folder, sites=4), tmp_path / "out", workers=2)
    first, second = done.rounds[1:]
    assert [site for site, _ in first.left_out] == ["site-2"]
    assert "it gave no answer for 3 s, the job's patience" in first.left_out[0][1]
    assert len(second.took_part) == 4


@pytest.mark.parametrize("key", ["min_sites", "sample", "quorum"])
def test_more_sites_than_a_simulation_has_are_refused_before_it_begins(tmp_path, key):
    folder = put_job(tmp_path / "job", {"train.py": TRAIN}, **{"with": {key: 5}})
    with pytest.raises(BadInput, match=rf'job.yaml:\d+:\d+: "{key}" is 5; the simulation has 3 sites') as refused:
        read_plan(folder, sites=3)
    assert refused.value.fix == "wanted at most 3, or begin it with --sites 5"
    assert len(read_plan(folder, sites=5).sites) == 5
