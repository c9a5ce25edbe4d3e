"""A round that goes on when enough sites have answered: as a parameter of each training workflow, in virtual time."""

import json

import pytest

from convoy.flows import catalog
from convoy.flows.check import problems
from convoy.sim.plan import read_plan
from convoy.sim.run import run
from convoy.spec.job import read_job_document
from tests.scenarios.conftest import put_job

WITHOUT = ("cyclic", "fedbuff", "fedasync", "cross_site")  # they have no rounds that wait for many sites
ROUNDS = [  # those that train any model, and need no parameter
    name for name, entry in catalog.BUILT_IN.items()
    if name not in (*WITHOUT, "fedex_lora") and not entry.own_trainer
    and not any(it.default is it.empty for it in entry.own)
]  # fmt: skip
TRAIN = """
import numpy as np
import convoy
from convoy import aggregate


def initial():
    return {"w": np.zeros(10), "bn.running_mean": np.zeros(1), "bn.running_var": np.ones(1)}


def evaluate(task):
    return {"loss": 1.0}


def train(task):
    helper = task.asked.helper
    mine = getattr(convoy, helper)(task) if helper else None
    model = getattr(mine, "model", task.model)
    w = {**model, "w": model["w"] + 1}
    if helper in ("Scaffold", "FedNova"):
        return mine.reply(w, steps=1, lr=1.0) if helper == "Scaffold" else mine.reply(w, steps=1)
    return mine.reply(w) if helper == "FedDyn" else w
"""
SLOW = {"work": "1m", "profiles": {"slow": {"share": 4, "speed": 0.1}, "fast": {"share": 6}}}


def simulated(folder, devices=SLOW, **spec):
    files = {"train.py": TRAIN, "simulate.yaml": f"sites: 10\ndevices: {json.dumps(devices)}\n"}
    known = {"trainer": "train.py:train", "model": "train.py:initial", "seed": 3}
    return run(read_plan(put_job(folder / "job", files, **known | spec)), folder / "out", workers=0)


@pytest.mark.parametrize("workflow", ROUNDS)
def test_every_workflow_with_rounds_goes_on_at_its_quorum(tmp_path, workflow):
    given = {"rounds": 2, "quorum": 6, "grace": "30s", "min_sites": 4}
    work = {"train": "1m", "aggregate": 0}
    done = simulated(tmp_path, {**SLOW, "work": work}, workflow=workflow, with_=given)
    assert done.job.state == "completed", done.job.cause
    for made in done.rounds[1:]:
        assert len(made.took_part) == 6
        reason = "train: no answer within 30 s after 6 sites had answered, the quorum"
        assert [why for _, why in made.left_out] == [reason] * 4
    assert done.rounds[1].committed_at == 90  # a minute of work, and half a minute of grace


def test_a_quorum_holds_for_the_evaluation_too_and_without_one_the_slowest_site_decides(tmp_path):
    given = {"rounds": 1, "evaluate": True}
    fast = simulated(tmp_path / "fast", with_={**given, "quorum": 6})
    assert fast.rounds[-1].committed_at == 120  # two questions of a minute: no grace
    assert simulated(tmp_path / "slow", with_=given).rounds[-1].committed_at == 1200


def test_whoever_answers_in_the_grace_counts(tmp_path):
    devices = {"work": "1m", "profiles": {"slow": {"share": 4, "speed": 0.75}, "fast": {"share": 6}}}
    done = simulated(tmp_path, devices, with_={"rounds": 1, "quorum": 6, "grace": "30s"})
    assert len(done.rounds[-1].took_part) == 10
    assert done.rounds[-1].committed_at == 80


@pytest.mark.parametrize(
    ("given", "name", "said"),
    [
        ("{quorum: 8}", "quorum", "wanted at most 3"),
        ("{quorum: 2, min_sites: 3}", "quorum", "wanted min_sites (3) or more"),
        ("{quorum: 3, sample: 2}", "quorum", "wanted at most sample (2)"),
        ("{quorum: -1}", "quorum", "wanted 0 or more"),
        ("{grace: 30s}", "grace", "it begins with a quorum"),
        ("{quorum: 2, grace: soon}", "grace", "write it like 30s"),
        ("{clip: -1}", "clip", "wanted 0 or more"),
    ],
)
def test_a_quorum_that_cannot_be_is_said_before_the_job_runs(given, name, said):
    text = f"name: x\ntrainer: train.py\nwith: {given}\n"
    found = problems(*read_job_document(text, "job.yaml"), {"train.py": b"def train(task): ..."}, ["a", "b", "c"])
    assert [f'"{name}" is' in one.what for one in found] == [True]
    assert said in found[0].fix


@pytest.mark.parametrize("workflow", WITHOUT[:3])
def test_a_workflow_without_such_rounds_refuses_a_quorum(workflow):
    assert catalog.BUILT_IN[workflow].wrong({"quorum": 2}).keys() == {"quorum"}
