"""A sweep: every combination once, the same as a simulation of its own, and what is done is not done again."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convoy.errors import BadInput
from convoy.sim.grid import added, points
from convoy.sim.plan import read_plan
from convoy.sim.run import run
from convoy.sim.sweep import draw, sweep, table
from convoy.sim.workers import ahead, gathered
from tests.scenarios.conftest import put_job
from tests.sim.typed import typed

TRAIN = """
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(3)}


def train(task):
    dice = np.random.default_rng(task.seed)
    rate = float(task.config.get("lr", 1))
    w = task.model["w"] + rate * (1 - task.model["w"]) + 0.01 * dice.standard_normal(3)
    return convoy.Reply({"w": w}, metrics={"loss": float(((w - 1) ** 2).mean())})
"""


def plan_of(folder, **spec):
    known = {"trainer": "train.py:train", "model": "train.py:initial", "with_": {"rounds": 3, "min_sites": 1}}
    return read_plan(put_job(folder, {"train.py": TRAIN}, **known | spec), sites=2)


def test_a_sweep_is_every_combination_and_each_is_what_a_simulation_of_it_gives(tmp_path):
    plan = plan_of(tmp_path / "job", config={"lr": 0.5}, seed=7)
    grid = points(plan, ["config.lr=0.1,0.5", "with.rounds=2,3"], 2)
    ran = sweep(grid, tmp_path / "sweep", workers=0)
    assert [(one.settings["config.lr"], one.settings["with.rounds"], one.seed) for one in ran] == [
        (lr, rounds, seed) for lr in (0.1, 0.5) for rounds in (2, 3) for seed in ("7", "8")
    ]
    assert [len(one.metrics) for one in ran] == [2, 2, 3, 3] * 2
    alone = run(plan, tmp_path / "alone", workers=0)
    same = next(one for one in ran if one.settings == {"config.lr": 0.5, "with.rounds": 3} and one.seed == "7")
    model = (same.folder / "model.safetensors").read_bytes()
    assert model == (alone.folder / "model.safetensors").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "sweep" / "sweep.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [one.last["loss"] for one in ran]


def test_all_workers_of_a_sweep_are_forked_by_one_process(tmp_path, monkeypatch):
    begun, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: begun.append(command) or popen(command, **more))
    grid = points(plan_of(tmp_path / "job", seed=1), [], 3)
    with (
        ahead(2, "processes") as forks,
        gathered(2, engine="processes", gpus_per_site=None, say=print, forks=forks) as choice,
    ):
        forked = sweep(grid, tmp_path / "forked", workers=choice)
    assert [command[3] for command in begun] == ["convoy.worker.forks"]
    anew = sweep(grid, tmp_path / "anew", workers=2)
    assert [command[3] for command in begun[1:]] == ["convoy.worker.start"] * 2 * 3
    for one, other in zip(forked, anew, strict=True):
        model, same = ((it.folder / "model.safetensors").read_bytes() for it in (one, other))
        assert one.state == "completed"
        assert model == same


def test_the_table_has_means_and_spreads_and_names_what_failed(tmp_path):
    grid = points(plan_of(tmp_path / "job", seed=1), ["config.lr=0.5,oops"], 3)
    heads, (good, bad) = table(sweep(grid, tmp_path / "sweep", workers=0))
    assert heads == ["config.lr", "completed", "loss", ""]
    assert good[:2] == ["0.5", "3/3"]
    assert "±" in good[2]
    assert bad[:3] == ["oops", "0/3", "-"]
    assert "failed: NotEnough" in bad[3]


def test_curves_are_drawn_for_each_setting(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: it comes with the extra `demo`")
    ran = sweep(points(plan_of(tmp_path / "job"), ["config.lr=0.1,0.5"], 2), tmp_path / "sweep", workers=0)
    draw(ran, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_goes_on_where_it_was_stopped_and_takes_more_values(tmp_path):
    plan, begun = plan_of(tmp_path / "job", seed=1), []

    def begins(point, number):
        if len(begun) == 2:
            raise KeyboardInterrupt
        begun.append((point.name, number))

    with pytest.raises(KeyboardInterrupt):
        sweep(points(plan, ["config.lr=0.1,0.2,0.3"], 1), tmp_path / "sweep", workers=0, begins=begins)
    half = tmp_path / "sweep" / "config.lr=0.3,seed=1"
    (half / "logs").mkdir(parents=True)  # what a simulation leaves that is killed
    more = []
    ran = sweep(
        points(plan, ["config.lr=0.1,0.2,0.3,0.4"], 1),
        tmp_path / "sweep",
        workers=0,
        begins=lambda point, number: more.append((point.name, number)),
    )
    assert more == [("config.lr=0.3,seed=1", 3), ("config.lr=0.4,seed=1", 4)]
    assert [one.state for one in ran] == ["completed"] * 4


def test_a_folder_of_another_sweep_is_left_as_it_is(tmp_path):
    sweep(points(plan_of(tmp_path / "job", seed=1), ["config.lr=0.1"], 1), tmp_path / "sweep", workers=0)
    (tmp_path / "job" / "train.py").write_text(TRAIN.replace("0.01", "0.02"))
    other = points(read_plan(tmp_path / "job", sites=2), ["config.lr=0.1,0.2"], 1)
    with pytest.raises(BadInput, match="a simulation of another job"):
        sweep(other, tmp_path / "sweep", workers=0)
    assert [one.name for one in (tmp_path / "sweep").glob("config*")] == ["config.lr=0.1,seed=1"]
    sites = points(read_plan(tmp_path / "job", sites=["a", "b"]), ["config.lr=0.1,0.2"], 1)
    with pytest.raises(BadInput, match="of other sites"):
        sweep(sites, tmp_path / "sweep", workers=0)
    strange = tmp_path / "mine" / "config.lr=0.1,seed=1"
    strange.mkdir(parents=True)
    (strange / "logs").mkdir()
    (strange / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not a simulation"):
        sweep(other, tmp_path / "mine", workers=0)
    assert (strange / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("lr=0.1", "--set lr is no setting of job.yaml"),
        ("seed=1,2", "--seeds give seeds"),
        ("config.lr", "sets nothing"),
        ("config.lr=", "sets nothing"),
        ("config.lr= ", "sets nothing"),
        ("config.=1", "sets nothing"),
        ("with.rounds=-1", "--set with.rounds=-1"),
        ("config.lr=0.1,0.1", "has a value twice"),
        ("config.lr=[0.1", "cannot be read"),
        ("with.round=3", "--set with.round=3"),
        ("with.rounds=many", "--set with.rounds=many"),
        ("patience.x=3", "nothing is below it"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_runs(tmp_path, given, said):
    with pytest.raises(BadInput, match=said.replace("[", r"\[")):
        points(plan_of(tmp_path / "job"), [given], 1)


def test_a_key_that_the_config_does_not_have_is_named_for_it_may_be_misspelt(tmp_path):
    plan = plan_of(tmp_path / "job", config={"lr": 0.5, "epochs": 2})
    assert added(plan, points(plan, ["config.lr=0.1,0.5", "with.rounds=2"], 1)) == []
    deep = plan_of(tmp_path / "deep", config={"opt": {"lr": 1}})
    assert added(deep, points(deep, ["config.opt.lr=2"], 1)) == []
    assert added(deep, points(deep, ["config.opt.lrr=2"], 1))[0].startswith(
        "job.yaml has no `config.opt.lrr` (there is lr)"
    )
    (said,) = added(plan, points(plan, ["config.lrr=0.1,0.5", "config.lr=1"], 1))
    assert said.startswith("job.yaml has no `config.lrr` (there is epochs, lr): ")


def test_names_of_folders_are_safe_and_different(tmp_path):
    plan = plan_of(tmp_path / "job")
    grid = points(plan, ["config.path=../../x,../x,'a b'", f"config.long={'x' * 300},{'x' * 299}"], 2)
    names = [point.name for point in grid]
    assert len(set(names)) == len(names) == 12
    assert all(len(name) < 120 and "/" not in name and not name.startswith(".") for name in names)


def test_data_that_has_changed_is_another_sweep(tmp_path):
    (tmp_path / "rows.csv").write_text("x\n1\n2\n")
    plan_of(tmp_path / "job", seed=1)
    for given in ("{rows: ../rows.csv}", "{rows: {file: ../rows.csv, split: iid}}"):
        (tmp_path / "job" / "simulate.yaml").write_text(f"data: {given}\n")
        folder = tmp_path / f"sweep-{len(given)}"
        before = points(read_plan(tmp_path / "job", sites=2), [], 1)
        sweep(before, folder, workers=0)
        sweep(before, folder, workers=0)  # nothing has changed
        (tmp_path / "rows.csv").write_text("x\n3\n4\n")
        with pytest.raises(BadInput, match="of other data"):
            sweep(points(read_plan(tmp_path / "job", sites=2), [], 1), folder, workers=0)
        (tmp_path / "rows.csv").write_text("x\n1\n2\n")


def test_data_that_the_job_makes_follows_from_the_settings(tmp_path):
    make = "\n\ndef rows():\n    return {'x': np.full(4, convoy.config['mu'])}\n"
    seen = TRAIN.replace("    dice =", "    print(np.load(task.data['rows'])['x'])\n    dice =") + make
    simulate = "data: {rows: {make: 'train.py:rows', split: iid}}\n"
    files = {"train.py": seen, "simulate.yaml": simulate}
    known = {"trainer": "train.py:train", "model": "train.py:initial", "config": {"mu": 1}, "with_": {"rounds": 1}}
    plan = read_plan(put_job(tmp_path / "job", files, **known), sites=2)
    for one in sweep(points(plan, ["config.mu=5,9"], 1), tmp_path / "sweep", workers=0):
        said = (one.folder / "logs" / "site-1.log").read_text()
        assert f"[{one.settings['config.mu']} {one.settings['config.mu']}]" in said


def test_the_command_runs_a_sweep_goes_on_and_says_what_failed(tmp_path):
    plan_of(tmp_path / "job", seed=1)
    command = [Path(sys.executable).with_name("convoy"), "simulate", "job", "--sites", "2", "--workers", "0"]

    def convoy(*more):
        return subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, check=False)

    first = convoy("--set", "config.lr=0.1,0.5", "--seeds", "2")
    assert first.returncode == 0, first.stderr
    assert "4/4  config.lr=0.5,seed=2" in first.stdout
    assert "warning: job.yaml has no `config.lr` (there is no key)" in first.stdout
    second = convoy("--set", "config.lr=0.1,0.5,oops", "--seeds", "2")
    assert second.returncode == 1
    assert "lr=0.1,seed" not in second.stdout
    assert "2 of 6 simulations did not complete" in second.stderr
    plain = convoy("--set", "with.rounds=5", "-o", "plain")  # one value is no sweep
    assert "round 5/5" in plain.stdout
    assert (tmp_path / "plain" / "model.safetensors").exists()


def test_ctrl_c_ends_a_sweep_and_the_next_one_goes_on(tmp_path):
    plan_of(tmp_path / "job", seed=1, with_={"rounds": 20_000, "min_sites": 1})
    words = ["job", "--sites", "2", "--seeds", "2", "--workers", "0", "--set", "with.rounds=2,20000"]
    with typed(tmp_path, *words) as running:
        while "3/4" not in running.stdout.readline():
            pass
        running.send_signal(signal.SIGINT)
        _, said = running.communicate()
    assert running.returncode != 0
    assert "Traceback" not in said
    names = sorted(one.parent.name for one in (tmp_path / "job-sweep").glob("*/point.json"))
    assert names == ["with.rounds=2,seed=1", "with.rounds=2,seed=2"]
