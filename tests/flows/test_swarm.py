"""Swarm learning: the sites fold in turn what the server would fold, with the same bits, and one replaces another."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convoy
from convoy import testing
from convoy.errors import JobFailed
from convoy.flows.check import problems
from convoy.flows.fleet import NotEnough
from convoy.model import gathered
from convoy.model.arrays import Model
from convoy.spec.job import read_job_document
from tests.flows.dying import dying

NAMES = ("a", "b", "c", "d", "e")
START = {"w": np.zeros(3), "half": np.zeros(2, np.float16), "n": np.zeros(2, np.int64), "frozen": np.ones(2)}


def train(task):
    rng = np.random.default_rng(task.seed)
    moved = {"w": task.model["w"] + rng.standard_normal(3), "n": task.model["n"] + rng.integers(0, 9, 2)}
    half = (task.model["half"] + rng.standard_normal(2)).astype(np.float16)
    return convoy.Reply(
        {**task.model, **moved, "half": half}, weight=rng.integers(1, 90), metrics={"loss": rng.random()}
    )


FUNCTIONS = {"train": train, "aggregate": convoy.aggregate}


def run(workflow, functions=FUNCTIONS, **options):
    return testing.run(workflow, functions, sites=NAMES, model=START, **{"rounds": 3} | options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_share": 0.3},
        {"max_norm_ratio": 1.1},
        {"clip": 0.5},
        {"fold": "median"},
        {"fold": "multikrum", "attackers": 1, "min_sites": 5},
        {"sample": 3},
    ],
)
def test_swarm_has_the_bits_and_the_metrics_of_fedavg(options):
    wanted, result = run("fedavg", **options), run("swarm", **options)
    assert result.model.digest == wanted.model.digest
    assert result.history == wanted.history
    assert [made.took_part for made in result.rounds] == [made.took_part for made in wanted.rounds]
    assert [made.left_out for made in result.rounds] == [made.left_out for made in wanted.rounds]


def test_the_sites_take_turns_by_name_and_each_receives_the_updates_of_all():
    seen = []

    def aggregate(task):
        base, updates = gathered.split(task.model)
        seen.append((task.round, task.site, len(updates)))
        assert set(base) == set(START)
        return convoy.aggregate(task)

    run("swarm", {"train": train, "aggregate": aggregate}, rounds=6)
    assert seen == [(number + 1, "abcdea"[number], 5) for number in range(6)]


def test_a_site_that_cannot_fold_is_replaced_by_the_next_and_the_model_is_the_same():
    asked = []

    def aggregate(task):
        asked.append((task.round, task.site))
        if task.site in "ab":
            raise MemoryError("too large for this machine")
        return convoy.aggregate(task)

    result = run("swarm", {"train": train, "aggregate": aggregate}, rounds=2)
    assert asked == [(1, "a"), (1, "b"), (1, "c"), (2, "b"), (2, "c")]
    assert result.model.digest == run("fedavg", rounds=2).model.digest
    assert "round 2: c folded the updates of 5 sites" in result.log


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda task: 1 / 0, "ZeroDivisionError"),
        (lambda task: convoy.Reply({"w": np.zeros(3)}, value={"left_out": {}}), "the answer has the arrays 'w'"),
        (lambda task: convoy.Reply(gathered.split(task.model)[0]), "return convoy.aggregate"),
        (lambda task: convoy.Reply(gathered.split(task.model)[0], value={"left_out": {"z": "?"}}), "sent none"),
        (lambda task: {**gathered.split(task.model)[0], "w": np.full(3, np.nan)}, "not finite"),
    ],
)
def test_what_is_not_a_fold_of_the_round_is_refused(made, said):
    with pytest.raises(NotEnough, match="no site folded the updates of round 1") as caught:
        run("swarm", {"train": train, "aggregate": made})
    assert str(caught.value).count(said) == 1
    assert "(a, b, c, d and e: aggregate: " in str(caught.value)


def test_a_fold_that_needs_more_answers_says_so_at_each_site():
    def light(task):
        return convoy.Reply(train(task).arrays, weight=int(task.site != "a"))  # of weight 0, it does not count

    options = {"functions": {**FUNCTIONS, "train": light}, "fold": "krum", "attackers": 1, "min_sites": 5}
    with pytest.raises(
        NotEnough, match="e: aggregate: JobFailed: krum cannot fold 4 answers of which 1 may be malicious"
    ):
        run("swarm", **options)
    with pytest.raises(JobFailed, match="krum cannot fold 4 answers"):
        run("fedavg", **options)


@pytest.mark.parametrize("last", [1, 2, 3, 4])
def test_a_swarm_that_is_stopped_in_a_round_continues_with_the_same_bits(last):
    """The second and the fourth question are those to fold."""
    whole, made = run("swarm"), testing.Federation(FUNCTIONS, sites=NAMES, model=START)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(made.run(dying("swarm", last, rounds=3)))
    result = asyncio.run(made.run("swarm", rounds=3))
    assert result.model.digest == whole.model.digest
    assert result.history == whole.history


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), max_size=4), st.text(min_size=1, max_size=5))
def test_a_model_and_its_updates_come_apart_as_they_were_joined(sizes, name):
    model = Model({name: np.arange(3), f"{name}/1": np.zeros(1)}, digests={name: "d"})
    updates = [Model({name: np.full(3, size), f"{name}/1": np.zeros(size)}) for size in sizes]
    base, found = gathered.split(gathered.join(model, updates))
    assert {**base.digests} == {name: "d"}
    for one, other in zip([base, *found], [model, *updates], strict=True):
        assert list(one) == list(other)
        assert all(one[key].tobytes() == other[key].tobytes() for key in other)


@pytest.mark.parametrize(
    ("code", "lacks"),
    [
        (b"def train(task): ...", True),
        (b"from convoy import aggregate\ndef train(task): ...", False),
        (b"def train(task): ...\ndef aggregate(task): ...", False),
    ],
)
def test_a_job_without_a_function_that_folds_is_refused_before_it_runs(code, lacks):
    document = read_job_document("name: x\ntrainer: train.py:train\nworkflow: swarm\n", "job.yaml")
    found = problems(*document, {"train.py": code})
    assert [one.what for one in found] == (
        ['job.yaml:3:1: workflow swarm has sites fold updates, and train.py has no function for "aggregate" tasks']
        if lacks
        else []
    )
    if lacks:
        assert "from convoy import aggregate" in found[0].fix
