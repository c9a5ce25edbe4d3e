"""Workflows with plain values: each law of an algorithm, and its known result, without a process."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convoy
from convoy import testing
from convoy.errors import BadInput, JobFailed
from convoy.flows import optimisers
from convoy.flows.fleet import NotEnough

SITES = {"a": {"goal": 1.0, "slope": 1.0}, "b": {"goal": 3.0, "slope": 4.0}}
BEST = (1 * 1 + 4 * 3) / 5  # where the mean of both slopes is 0
START = {"w": np.zeros(2)}


def descend(task, steps=5, lr=0.1):
    """Some steps down a parabola of this site's own."""
    w = task.model.numpy()["w"]
    for _ in range(steps):
        w = w - lr * task.data["slope"] * (w - task.data["goal"])
    return convoy.Reply({"w": w}, metrics={"loss": float(((w - BEST) ** 2).sum())})


def corrected(task, steps=5, lr=0.1):
    """The same steps, each with SCAFFOLD's correction."""
    mine = convoy.Scaffold(task)
    w = mine.model["w"]
    for _ in range(steps):
        w = w - lr * (task.data["slope"] * (w - task.data["goal"]) + mine.correction["w"])
    return mine.reply({"w": w}, steps=steps, lr=lr)


def test_fedavg_is_the_weighted_mean_of_what_the_sites_made():
    def train(task):
        return convoy.Reply({"w": np.full(2, task.data["value"])}, weight=task.data["n"], metrics={"auc": 0.5})

    sites = {"a": {"value": 1.0, "n": 1}, "b": {"value": 4.0, "n": 2}}
    result = testing.run("fedavg", train, sites=sites, model=START, rounds=1, best="auc")
    np.testing.assert_allclose(result.model["w"], 3.0)
    assert result.rounds[-1].took_part == (("a", 1.0), ("b", 2.0))
    assert result.best is result.model


def test_fedavg_measures_the_model_before_it_is_committed_and_stops_when_nothing_gets_better():
    def evaluate(task):
        return {"loss": float(task.model["w"][0])}

    functions = {"train": lambda task: {"w": task.model["w"] + 1}, "evaluate": evaluate}
    result = testing.run(
        "fedavg", functions, sites=("a", "b"), model=START, rounds=9, evaluate=True, best="min:loss", stop_after=2
    )
    assert [round_["metrics"].get("loss") for round_ in result.history] == [None, 1.0, 2.0, 3.0]
    assert "stopped before round 4" in result.log[-1]
    assert result.best["w"][0] == 1.0


def test_scaffold_finds_the_optimum_where_fedavg_drifts_away_from_it():
    drifted = testing.run("fedavg", descend, sites=SITES, model=START, rounds=60).model["w"]
    found = testing.run("scaffold", corrected, sites=SITES, model=START, rounds=60)
    np.testing.assert_allclose(found.model["w"], BEST, rtol=1e-6)
    assert abs(drifted[0] - BEST) > 0.2
    slopes = {name: site["slope"] * (BEST - site["goal"]) for name, site in SITES.items()}
    for name, slope in slopes.items():  # what each site keeps is its own gradient at the optimum
        np.testing.assert_allclose(found.states[name]["w"], slope, rtol=1e-5)
    np.testing.assert_allclose(found.state["w"], 0, atol=1e-6)


def test_a_trainer_of_scaffold_under_another_workflow_is_told_so():
    with pytest.raises(NotEnough, match="this task has no control variate"):
        testing.run("fedavg", corrected, sites=SITES, model=START, rounds=1)


def test_fedadam_follows_algorithm_2_of_reddi_et_al():
    result = testing.run("fedadam", descend, sites=SITES, model=START, rounds=3, server_lr=0.1)
    w, m, v = np.zeros(2), np.zeros(2), np.zeros(2)
    for _ in range(3):
        ends = []
        for site in SITES.values():
            end = w.copy()
            for _ in range(5):
                end -= 0.1 * site["slope"] * (end - site["goal"])
            ends.append(end)
        delta = np.mean(ends, axis=0) - w
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        w = w + 0.1 * m / (np.sqrt(v) + 0.001)
    np.testing.assert_allclose(result.model["w"], w)
    np.testing.assert_allclose(result.state["m/w"], m)
    np.testing.assert_allclose(result.state["v/w"], v)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1.0))
def test_a_step_of_fedadam_is_never_longer_than_its_rate_allows(apart, lr):
    rule = optimisers.Adaptive(optimisers.adam, lr, 0.9, 0.99, 0.001, 0.0)
    moved, _ = optimisers.step({"w": np.zeros(1)}, {"w": np.full(1, apart)}, {}, rule)
    assert abs(moved["w"][0]) <= lr * 0.1 / np.sqrt(0.01) + 1e-12  # |m| / sqrt(v) of the first step


def test_integers_of_a_model_take_the_mean_under_every_server_rule():
    def train(task):
        if task.asked.helper:
            convoy.Proximal(task)
        return {"w": task.model["w"] + 1, "n": task.model["n"] + 2}

    for workflow in ("fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedprox", "fedbuff"):
        start = {"w": np.zeros(1), "n": np.zeros(1, np.int64)}
        assert testing.run(workflow, train, sites=("a", "b"), model=start, rounds=1).model["n"][0] == 2


def test_fedbuff_commits_when_its_buffer_is_full_and_knows_how_stale_each_answer_is():
    seen = []

    async def workflow(fleet):
        stream = fleet.stream("train")
        async for turn in fleet.rounds(3):
            taken = [update async for update in stream.take(2, turn.model)]
            seen.extend((turn.number, it.site, it.staleness, float(it.base["w"][0])) for it in taken)
            await turn.commit({"w": turn.model["w"] + 1})

    testing.run(workflow, lambda task: {"w": task.model["w"]}, sites=("a", "b", "c"), model=START)
    assert seen == [
        (1, "a", 0, 0.0),
        (1, "b", 0, 0.0),
        (2, "c", 1, 0.0),
        (2, "a", 1, 0.0),
        (3, "b", 1, 1.0),
        (3, "c", 1, 1.0),
    ]


def test_fedbuff_reaches_a_good_model():
    result = testing.run("fedbuff", descend, sites=SITES, model=START, rounds=60, buffer=1)
    assert abs(result.model["w"][0] - BEST) < 1.0


def test_a_site_that_fails_in_a_stream_is_asked_again_in_the_next_round_and_the_others_go_on():
    tries = []

    def train(task):
        if task.site == "a":
            tries.append(task.round)
            raise ValueError("no data today")
        return {"w": task.model["w"]}

    result = testing.run("fedbuff", train, sites=("a", "b"), model=START, rounds=3, buffer=1)
    assert result.history[-1]["round"] == 3
    assert tries == [1, 2, 3]
    with pytest.raises(NotEnough, match="no site works on 'train' questions any more"):
        testing.run("fedbuff", lambda task: 1 / 0, sites=("a",), model=START, rounds=1)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"n": np.zeros((3, 2), np.int64)}, None),
        (
            {"n": np.zeros((3, 2), np.int32)},
            "array 'n' of the answer is int32 [3, 2], the question asks for int64 [any, 2]",
        ),
        ({"n": np.zeros(2, np.int64)}, "is int64 [2], the question asks for int64 [any, 2]"),
        ({"m": np.zeros((3, 2), np.int64)}, "the answer has the arrays 'm'"),
        ({"n": np.zeros((900, 2), np.int64)}, "the answer has 14400 bytes of arrays"),
        (None, "the reply to a 'probe' task has no arrays"),
    ],
)
def test_the_arrays_of_an_answer_are_what_the_question_asks_for(reply, said):
    heard = {}

    async def workflow(fleet):
        answers = fleet.ask("probe", {}, at_least=0, reply={"n": ("i8", (None, 2))}, reply_limit="8Ki")
        async for update in answers:
            heard[update.site] = update.model["n"].shape
        heard.update(answers.left_out)

    testing.run(workflow, lambda task: convoy.Reply(reply), sites=("a",))
    assert heard["a"] == (3, 2) if said is None else said in heard["a"]


def test_settings_reach_a_trainer_and_a_value_comes_back():
    async def workflow(fleet):
        async for update in fleet.ask("probe", {}, settings={"columns": ["age"], "bins": 4}):
            assert update.value == {"columns": ["age"], "bins": 4}
            fleet.log("heard")

    result = testing.run(workflow, lambda task: convoy.Reply(value=task.settings), sites=("a", "b"))
    assert result.log == ("heard", "heard")


def test_a_site_that_keeps_a_state_finds_it_in_its_next_task_and_no_other_site_does():
    def train(task):
        count = task.state.get("count", np.zeros(1)) + 1
        assert set(task.state) <= {"count"}
        return convoy.Reply({"w": task.model["w"] + count}, state={"count": count if task.site == "a" else count * 10})

    result = testing.run("fedavg", train, sites=("a", "b"), model=START, rounds=3)
    assert {name: state["count"].tolist() for name, state in result.states.items()} == {
        "a": [3.0],
        "b": [1110.0],
    }


def test_a_workflow_that_stops_half_way_goes_on_at_its_last_commit_with_its_state():
    async def workflow(fleet, stop):
        async for turn in fleet.rounds(4):
            if turn.number == stop:
                raise RuntimeError("killed")
            moment = turn.state.get("m", np.zeros(1)) + turn.number
            await turn.commit(turn.model, state={"m": moment})

    made = testing.Federation(lambda task: {}, sites=("a",), model=START)
    with pytest.raises(RuntimeError):
        asyncio.run(made.run(workflow, stop=3))
    assert asyncio.run(made.run(workflow, stop=0)).state["m"].tolist() == [10.0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12))
def test_an_asynchronous_workflow_that_is_stopped_anywhere_folds_the_same_answers_in_the_same_order(stop):
    def workflow_of(folded, stop):
        async def workflow(fleet):
            stream, count = fleet.stream("train"), 0
            async for turn in fleet.rounds(4):
                total = np.zeros(2)
                async for update in stream.take(3, turn.model):
                    count += 1
                    if count == stop:
                        raise RuntimeError("killed")
                    total += update.model["w"]
                    folded.append((turn.number, update.site, update.staleness))
                await turn.commit({"w": turn.model["w"] * 0.5 + total})

        return workflow

    def train(task):
        return {"w": task.model["w"] + len(task.site)}

    def made():
        return testing.Federation(train, sites=("a", "bb", "ccc", "dddd"), model=START)

    whole, parts = [], []
    wanted = asyncio.run(made().run(workflow_of(whole, -1)))
    again = made()
    if stop:
        with pytest.raises(RuntimeError):
            asyncio.run(again.run(workflow_of(parts, stop)))
        parts = [one for one in parts if one[0] <= again.job.committed]
    result = asyncio.run(again.run(workflow_of(parts, -1)))
    assert parts == whole
    assert result.model.digest == wanted.model.digest


def test_what_the_parameters_of_a_built_in_workflow_cannot_be_is_said_with_the_fix():
    for workflow, given_, said in (
        ("fedadam", {"beta1": 1.0}, "below 1"),
        ("fedavgm", {"momentum": 1.0}, "below 1"),
        ("fedyogi", {"tau": 0.0}, "above 0"),
        ("fedadagrad", {"accumulator": -1.0}, "from 0 up"),
        ("fedadagrad", {"server_lr": float("inf")}, "above 0"),
        ("fedprox", {"mu": float("nan")}, "from 0 up"),
        ("scaffold", {"server_lr": 0}, "above 0"),
        ("fedbuff", {"buffer": 0}, "1 or more"),
        ("fedavg", {"rounds": 0}, "1 or more"),
    ):
        with pytest.raises(BadInput) as caught:
            testing.run(workflow, descend, sites=("a",), **given_)
        assert said in caught.value.fix


def test_what_a_workflow_raises_is_raised():
    async def workflow(fleet):
        fleet.ask("train", {}, order="first")

    with pytest.raises(JobFailed, match="order='first'"):
        testing.run(workflow, descend, sites=("a",))
