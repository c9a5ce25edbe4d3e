"""DiLoCo: its outer step, and fragments that are synchronised in turn while sites keep the others."""

import asyncio
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convoy
from convoy import testing
from convoy.errors import BadInput
from convoy.flows.fleet import NotEnough
from convoy.model import fragments
from convoy.sim.plan import read_plan
from convoy.sim.run import run
from tests.flows.dying import dying
from tests.scenarios.conftest import put_job

SITES = {"a": {"goal": 1.0}, "b": {"goal": 3.0}, "c": {"goal": -1.0}}
START = {"one": np.zeros(3), "two": np.zeros(2), "n": np.zeros(1, np.int64), "three": np.zeros(4)}


def moved(model, goal, steps):
    """Steps towards the goal of a site; each counts."""
    for _ in range(steps):
        model = {name: w + 1 if name == "n" else w + 0.1 * (goal - w) for name, w in model.items()}
    return model


def whole(task):
    return convoy.Reply(moved(task.model.numpy(), task.data["goal"], task.settings["inner_steps"]))


def streaming(task):
    mine = convoy.Streaming(task)
    count = mine.state.get("count", np.zeros(1)) + 1
    arrays = moved(mine.model, task.data["goal"], task.settings["inner_steps"])
    return mine.reply(arrays, metrics={"count": count[0]}, state={"count": count})


# ---- the outer step --------------------------------------------------------------------------------------------------
def test_diloco_is_algorithm_1_with_nesterov_momentum_of_douillard_et_al():
    result = testing.run("diloco", whole, sites=SITES, model={"w": np.zeros(2)}, rounds=4, inner_steps=3)
    w, m = np.zeros(2), np.zeros(2)
    for _ in range(4):
        ends = [moved({"w": w}, site["goal"], 3)["w"] for site in SITES.values()]
        delta = np.mean(ends, axis=0) - w
        m = 0.9 * m + delta
        w = w + 0.7 * (delta + 0.9 * m)
    np.testing.assert_allclose(result.model["w"], w, rtol=1e-12)
    np.testing.assert_allclose(result.state["m/w"], m, rtol=1e-12)


def test_diloco_takes_the_steps_of_torch_s_sgd_with_nesterov():
    torch = pytest.importorskip("torch")
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    outer = torch.optim.SGD([w], lr=0.7, momentum=0.9, nesterov=True)
    for _ in range(5):
        ends = [moved({"w": w.detach().numpy().copy()}, site["goal"], 3)["w"] for site in SITES.values()]
        w.grad = w.detach() - torch.from_numpy(np.mean(ends, axis=0))
        outer.step()
    result = testing.run("diloco", whole, sites=SITES, model={"w": np.zeros(2)}, rounds=5, inner_steps=3)
    np.testing.assert_allclose(result.model["w"], w.detach().numpy(), rtol=1e-12)


def test_diloco_is_fedavgm_with_nesterov_to_the_bit():
    def train(task):
        return convoy.Reply(moved(task.model.numpy(), task.data["goal"], 500))

    options = {"sites": SITES, "model": START, "rounds": 4, "server_lr": 0.7}
    one = testing.run("diloco", train, **options)
    assert one.model.digest == testing.run("fedavgm", train, nesterov=True, **options).model.digest


# ---- fragments -------------------------------------------------------------------------------------------------------
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 12))
def test_fragments_are_runs_of_tensors_that_are_all_of_the_model(sizes, count):
    model = {f"t{place}": np.zeros(size, np.int8) for place, size in enumerate(sizes)}
    if count > len(model):
        with pytest.raises(BadInput, match="too few"):
            fragments.divide(model, count)
        return
    runs = fragments.divide(model, count)
    assert [name for run in runs for name in run] == list(model)
    assert 1 <= len(runs) <= count
    assert all(runs)
    for names in runs:  # none is larger than its part and one tensor more
        assert sum(model[name].nbytes for name in names) <= sum(sizes) / count + max(sizes)


@given(st.integers(1, 9), st.integers(1, 40))
def test_each_fragment_has_its_turn_once_in_so_many_rounds(count, number):
    rounds = range(number, number + count)
    assert sorted(fragments.turn(one, count) for one in rounds) == list(range(count))
    for place in range(count):
        past = [one for one in range(1, number) if fragments.turn(one, count) == place]
        last = fragments.last_turn(place, number, count)
        assert last == past[-1] if past else last <= 0


def by_hand(rounds, runs, away=lambda site, number: False):
    """Streaming DiLoCo with two steps a round: the model of the federation, and those of the sites."""
    model, m = {name: it.astype(float) for name, it in START.items()}, dict.fromkeys(START, 0.0)
    local = {site: dict(model) for site in SITES}
    missed = {site: set() for site in SITES}  # what was synchronised while a site was away
    for number in range(1, rounds + 1):
        names = runs[(number - 1) % len(runs)]
        there = [site for site in SITES if not away(site, number)]
        for site in there:
            local[site] |= {name: model[name] for name in missed[site]}
            local[site], missed[site] = moved(local[site], SITES[site]["goal"], 2), set()
        for name in names:
            mean = np.mean([local[site][name] for site in there], axis=0)
            if name == "n":
                model[name] = np.rint(mean)
                continue
            delta = mean - model[name]
            m[name] = 0.9 * m[name] + delta
            model[name] = model[name] + 0.7 * (delta + 0.9 * m[name])
        for site in SITES:
            missed[site] |= set(names)
    return model


@pytest.mark.parametrize("count", [2, 3])
def test_sites_train_the_whole_model_and_synchronise_a_fragment_a_round(count):
    result = testing.run("diloco", streaming, sites=SITES, model=START, rounds=7, inner_steps=2, fragments=count)
    for name, array in by_hand(7, fragments.divide(START, count)).items():
        np.testing.assert_allclose(result.model[name], array, rtol=1e-12)
    assert result.history[-1]["metrics"] == {"count": 7.0}


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(1, 8)))
def test_a_site_that_was_away_takes_over_what_was_synchronised_meanwhile(rounds):
    def train(task):
        if task.site == "b" and task.round in rounds:
            raise ValueError("away")
        return streaming(task)

    result = testing.run("diloco", train, sites=SITES, model=START, rounds=8, inner_steps=2, fragments=3)
    wanted = by_hand(8, fragments.divide(START, 3), lambda site, number: site == "b" and number in rounds)
    for name, array in wanted.items():
        np.testing.assert_allclose(result.model[name], array, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("last", [1, 2, 5])
def test_diloco_that_is_stopped_in_the_middle_of_a_round_continues_with_the_same_bits(count, last):
    train, options = whole if count == 1 else streaming, {"rounds": 6, "inner_steps": 2, "fragments": count}
    calm = testing.run("diloco", train, sites=SITES, model=START, **options)
    made = testing.Federation(train, sites=SITES, model=START)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(made.run(dying("diloco", last, **options)))
    result = asyncio.run(made.run("diloco", **options))
    assert (result.model.digest, result.state.digest) == (calm.model.digest, calm.state.digest)
    assert {name: it.digest for name, it in result.states.items()} == {n: it.digest for n, it in calm.states.items()}


def test_fragments_are_those_of_the_federated_part_where_keys_keep_tensors_at_the_sites():
    def train(task):
        assert list(task.model) == list(START)
        mine = convoy.Streaming(task)
        return mine.reply(moved(mine.model, task.data["goal"], 2))

    result = testing.run("diloco", train, sites=SITES, model=START, rounds=6, fragments=2, keys=["!two"])
    runs = fragments.divide({name: array for name, array in START.items() if name != "two"}, 2)
    assert list(result.model) == [name for name in START if name != "two"]
    whole_model = by_hand(6, runs)
    for name, array in result.model.items():
        np.testing.assert_allclose(array, whole_model[name], rtol=1e-12)
    for name, site in SITES.items():
        (kept,) = [array for key, array in result.states[name].items() if key.endswith("/two")]
        np.testing.assert_allclose(kept, moved({"two": np.zeros(2)}, site["goal"], 12)["two"], rtol=1e-12)


JOB = """
import numpy as np
import convoy


def initial():
    return {f"layer-{place}": np.zeros(25_000, np.float32) for place in range(4)}


def train(task):
    if "fragments" not in task.settings:
        return {name: array + 1 for name, array in task.model.items()}
    mine = convoy.Streaming(task)
    return mine.reply({name: array + np.float32(task.seed % 5) for name, array in mine.model.items()})
"""


def simulated(folder, **options):
    spec = {"trainer": "train.py:train", "model": "train.py:initial", "workflow": "diloco", "seed": 1}
    files = {"train.py": JOB, "simulate.yaml": "sites: 3\n"}
    with_ = {"rounds": 9, "min_sites": 3, **options}
    done = run(read_plan(put_job(folder / "job", files, **spec, with_=with_)), folder / "out", workers=0)
    assert done.job.state == "completed", done.job.cause
    return [
        (it["bytes_down"], it["bytes_up"]) for it in json.loads((done.folder / "simulation.json").read_text())["rounds"]
    ]


def test_only_the_tensors_of_a_fragment_travel_in_a_round(tmp_path):
    whole_model, fragment = 3 * 4 * 100_000, 3 * 100_000  # bytes, to three sites or from them
    plain = simulated(tmp_path / "plain")
    parted = simulated(tmp_path / "parted", fragments=4)
    assert [up for _, up in plain] == [number * whole_model for number in range(10)]
    assert [up for _, up in parted] == [number * fragment for number in range(10)]
    down = [down for down, _ in parted]
    # The first round sends four equal tensors of zeros, each later one what the round before it has synchronised.
    assert [after - before for before, after in itertools.pairwise(down[1:])] == [fragment] * 8


def test_a_trainer_that_does_not_stream_and_one_under_another_workflow_are_told_so():
    with pytest.raises(NotEnough, match=r"does not use convoy\.Streaming"):
        testing.run("diloco", whole, sites=SITES, model=START, rounds=1, inner_steps=1, fragments=2)
    with pytest.raises(NotEnough, match="this task has no fragments"):
        testing.run("diloco", streaming, sites=SITES, model=START, rounds=1)
    with pytest.raises(BadInput, match="too few for 5 fragments"):
        testing.run("diloco", streaming, sites=SITES, model=START, rounds=1, fragments=5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"inner_steps": 0}, "1 or more"),
        ({"fragments": 0}, "1 or more"),
        ({"momentum": 1.0}, "below 1"),
        ({"fragments": 2, "max_norm": 1.0}, "use `clip`"),
    ],
)
def test_what_diloco_cannot_do_is_said(given, said):
    with pytest.raises(BadInput) as caught:
        testing.run("diloco", whole, sites=SITES, model=START, **given)
    assert said in caught.value.fix
