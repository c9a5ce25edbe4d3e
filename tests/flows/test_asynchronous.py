"""FedAsync, and the staleness functions that it shares with FedBuff."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convoy
from convoy import testing
from convoy.errors import BadInput
from convoy.flows import staleness
from tests.flows.dying import dying

START = {"w": np.zeros(2)}
GOALS = {"a": 1.0, "b": 3.0, "c": -2.0}
SITES = {name: {"goal": goal} for name, goal in GOALS.items()}


def descend(task):
    w = task.model["w"]
    return convoy.Reply({"w": w + 0.5 * (task.data["goal"] - w)}, weight=7, metrics={"goal": task.data["goal"]})


@given(st.sampled_from(sorted(staleness.FUNCTIONS)), st.integers(0, 1000), st.floats(0, 20), st.floats(0, 20))
def test_an_answer_counts_the_less_the_staler_it_is_and_a_fresh_one_wholly(function, stale, a, b):
    counts = [staleness.share(function, s, a, b) for s in (0, stale, stale + 1)]
    assert counts[0] == 1.0
    assert 1.0 >= counts[1] >= counts[2] >= 0


@pytest.mark.parametrize(
    ("function", "wanted"),
    [("constant", [1, 1, 1]), ("polynomial", [1, 2**-0.5, 10**-0.5]), ("hinge", [1, 1, 1 / (10 * (9 - 4) + 1)])],
)
def test_each_function_is_that_of_the_paper(function, wanted):
    a = 10 if function == "hinge" else 0.5
    assert [staleness.share(function, s, a, 4) for s in (0, 1, 9)] == pytest.approx(wanted)


@pytest.mark.parametrize(("function", "a"), [("constant", 0.5), ("polynomial", 0.5), ("hinge", 10.0)])
def test_fedasync_is_algorithm_1_of_xie_et_al(function, a):
    """Three sites that answer in turn: the first answers are 0, 1 and 2 rounds old, and all later ones 2."""
    result = testing.run("fedasync", descend, sites=SITES, model=START, rounds=9, staleness=function, a=a, b=1.0)
    models = [np.zeros(2)]
    for number in range(1, 10):
        site, stale = "abc"[(number - 1) % 3], min(number - 1, 2)
        began = models[number - 1 - stale]
        came = began + 0.5 * (GOALS[site] - began)
        share = 0.6 * staleness.share(function, stale, a, 1.0)
        models.append((1 - share) * models[-1] + share * came)
    np.testing.assert_allclose(result.model["w"], models[-1], rtol=1e-12)
    assert [made.took_part for made in result.rounds[1:4]] == [(("a", 7.0),), (("b", 7.0),), (("c", 7.0),)]


def test_fedasync_of_one_site_with_an_alpha_of_1_is_that_site():
    result = testing.run("fedasync", descend, sites={"a": SITES["a"]}, model=START, rounds=5, alpha=1.0)
    w = np.zeros(2)
    for _ in range(5):
        w = w + 0.5 * (1.0 - w)
    assert result.model["w"].tobytes() == w.tobytes()


def test_an_answer_of_weight_0_changes_nothing_and_integers_are_the_answer_s():
    def train(task):
        return convoy.Reply({"w": task.model["w"] + 1, "n": task.model["n"] + 2}, weight=int(task.site == "a"))

    start = {"w": np.zeros(1), "n": np.zeros(1, np.int64)}
    result = testing.run("fedasync", train, sites=("a", "b"), model=start, rounds=2, alpha=0.5)
    assert result.model["w"].tolist() == [0.5]
    assert result.model["n"].tolist() == [2]


def test_fedbuff_counts_stale_answers_by_the_same_functions():
    def train(task):
        return {"w": task.model["w"] + 1}

    def run(**options):
        return testing.run("fedbuff", train, sites="abc", model={"w": np.zeros(1)}, rounds=2, buffer=1, **options)

    assert run().model["w"][0] == pytest.approx(1 + 2**-0.5)
    assert run(staleness="constant").model["w"][0] == pytest.approx(2)
    assert run(staleness="polynomial", a=1.0).model["w"][0] == pytest.approx(1.5)
    assert run(staleness="hinge", a=3.0, b=0.0).model["w"][0] == pytest.approx(1.25)


def test_the_proximal_term_of_fedasync_reaches_its_trainers():
    def train(task):
        assert convoy.Proximal(task).mu == 0.25
        return task.model

    assert testing.run("fedasync", train, sites=("a",), model=START, rounds=1, mu=0.25).history[-1]["round"] == 1


@pytest.mark.parametrize("workflow", ["fedasync", "fedbuff"])
@pytest.mark.parametrize("last", [1, 2, 5])
def test_an_asynchronous_workflow_that_is_stopped_in_a_round_continues_with_the_same_bits(workflow, last):
    whole = testing.run(workflow, descend, sites=SITES, model=START, rounds=8)
    made = testing.Federation(descend, sites=SITES, model=START)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(made.run(dying(workflow, last, rounds=8)))
    assert made.job.committed == last - 1
    assert asyncio.run(made.run(workflow, rounds=8)).model.digest == whole.model.digest


@pytest.mark.parametrize(
    ("workflow", "given", "said"),
    [
        ("fedasync", {"alpha": 0}, "above 0 and up to 1"),
        ("fedasync", {"staleness": "linear"}, "one of constant, polynomial, hinge"),
        ("fedasync", {"quorum": 2}, "each answer is committed as it arrives"),
        ("fedasync", {"clip": 1.0}, "whose median could bound it"),
        ("fedasync", {"fold": "median"}, "wanted mean: each answer is folded alone"),
        ("fedbuff", {"a": -1.0}, "from 0 up"),
        ("fedbuff", {"quorum": 2}, "as soon as `buffer` answers have arrived"),
    ],
)
def test_what_an_asynchronous_workflow_cannot_do_is_said(workflow, given, said):
    with pytest.raises(BadInput) as caught:
        testing.run(workflow, descend, sites=SITES, model=START, **given)
    assert said in caught.value.fix
