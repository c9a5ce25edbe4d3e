"""Keys: which tensors are federated, what stays at a site, and that nothing else about a workflow changes."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convoy
from convoy import testing
from convoy.errors import BadInput
from convoy.flows import keys
from convoy.flows.fleet import NotEnough
from tests.flows.dying import dying

SITES = {"a": {"n": 1.0}, "b": {"n": 2.0}}
START = {"body.w": np.zeros(3), "head.w": np.ones(2), "body.b": np.zeros(1, np.float32)}
RESNET = (
    "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked",
    "layer1.0.downsample.1.weight", "layer1.0.downsample.1.running_mean", "layer1.0.downsample.1.running_var",
    "subnet.weight", "norm.weight", "fc.weight",
)  # fmt: skip


def add(task):
    """Add to every tensor, to the head ten times as much, and count in a state of the trainer's own."""
    count = task.state.get("count", np.zeros(1)) + 1
    after = {
        name: array + np.asarray(task.data["n"] * (10 if name.startswith("head") else 1), array.dtype)
        for name, array in task.model.items()
    }
    return convoy.Reply(after, weight=task.data["n"], state={"count": count})


def head_of(result, site):
    return result.states[site]["private/1/head.w"].tolist()


def test_what_stays_at_a_site_is_trained_there_alone_and_the_result_is_the_rest():
    result = testing.run("fedavg", add, sites=SITES, model=START, rounds=3, keys=["!head.*"])
    assert list(result.model) == ["body.w", "body.b"]
    np.testing.assert_allclose(result.model["body.w"], 5.0)  # three rounds of (1 * 1 + 2 * 2) / 3
    assert head_of(result, "a") == [31.0, 31.0]
    assert head_of(result, "b") == [61.0, 61.0]
    assert result.states["b"]["count"].tolist() == [3.0]
    assert result.log[0] == "2 tensors are federated; 1 stay at each site: head.w"


def test_the_federated_part_is_that_of_a_run_without_keys_to_the_bit():
    whole = testing.run("fedadam", add, sites=SITES, model=START, rounds=3, server_lr=0.1)
    part = testing.run("fedadam", add, sites=SITES, model=START, rounds=3, server_lr=0.1, keys=["body.*"])
    assert [part.model[name].tobytes() for name in part.model] == [whole.model[name].tobytes() for name in part.model]


def test_a_trainer_sees_the_whole_model_in_its_order_and_which_tensors_stay():
    def train(task):
        assert list(task.model) == list(START)
        assert task.private == {"head.w"}
        assert set(task.state) <= {"count"}
        return add(task)

    testing.run("fedavg", train, sites=SITES, model=START, rounds=3, keys=["body.*"])


def test_without_keys_nothing_stays():
    def train(task):
        assert task.private == frozenset()
        return add(task)

    assert list(testing.run("fedavg", train, sites=SITES, model=START, rounds=1).model) == list(START)


def test_a_state_that_a_trainer_does_not_give_stays_as_it_was():
    def train(task):
        return add(task) if task.round == 1 else convoy.Reply(add(task).arrays)

    result = testing.run("fedavg", train, sites={"a": {"n": 1.0}}, model=START, rounds=3, keys=["!head.*"])
    assert result.states["a"]["count"].tolist() == [1.0]
    assert head_of(result, "a") == [31.0, 31.0]


def test_a_site_measures_with_its_own_tensors_and_a_new_one_with_those_of_the_initial_model():
    seen = {}

    def evaluate(task):
        seen.setdefault(task.round, {})[task.site] = task.model["head.w"].tolist()
        return {"head": float(task.model["head.w"][0])}

    def train(task):
        if task.site == "b" and task.round == 1:
            raise ValueError("not in the first round")
        return add(task)

    functions = {"train": train, "evaluate": evaluate}
    testing.run("fedavg", functions, sites=SITES, model=START, rounds=3, keys=["!head.*"], evaluate=True)
    assert seen[2] == {"a": [11.0, 11.0], "b": [1.0, 1.0]}  # what a round trained is kept when it is committed
    assert seen[3] == {"a": [21.0, 21.0], "b": [21.0, 21.0]}


@pytest.mark.parametrize(
    ("workflow", "parameters"),
    [
        ("fedavg", {"fold": "median", "min_sites": 2}),
        ("fedavgm", {}),
        ("fedprox", {"mu": 0.5}),
        ("scaffold", {}),
        ("fednova", {}),
        ("feddyn", {}),
        ("ditto", {}),
        ("fedbuff", {"buffer": 1}),
        ("cyclic", {}),
    ],
)
def test_every_workflow_that_trains_takes_keys(workflow, parameters):
    def train(task):
        assert list(task.private) == ["head.w"]
        after = add(task).arrays
        match workflow:
            case "fedprox":
                held = convoy.Proximal(task).gradient(after)
                assert held["head.w"].tolist() == [0.0, 0.0]  # it has no common value to be held at
                assert held["body.w"].all()
                return after
            case "scaffold":
                mine = convoy.Scaffold(task)
                assert set(mine.correction) == {"body.w", "head.w", "body.b"}
                assert mine.correction["head.w"].tolist() == [0.0, 0.0]
                return mine.reply({name: after[name] for name in mine.model}, steps=1, lr=0.1)
            case "fednova":
                return convoy.FedNova(task).reply(after, steps=2)
            case "feddyn":
                mine = convoy.FedDyn(task)
                assert mine.gradient(after)["head.w"].tolist() == [0.0, 0.0]
                return mine.reply(after)
            case "ditto":
                mine = convoy.Ditto(task)
                return mine.reply(after, mine.personal)
        return after

    result = testing.run(workflow, train, sites=SITES, model=START, rounds=2, keys=["body.*"], **parameters)
    assert list(result.model) == ["body.w", "body.b"]
    assert any("private/1/head.w" in state for state in result.states.values())


@pytest.mark.parametrize("last", [1, 2, 4])
def test_a_workflow_with_keys_that_is_stopped_in_the_middle_of_a_round_continues_with_the_same_bits(last):
    whole = testing.run("fedavg", add, sites=SITES, model=START, rounds=5, keys=["!head.*"])
    made = testing.Federation(add, sites=SITES, model=START)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(made.run(dying("fedavg", last, rounds=5, keys=["!head.*"])))
    result = asyncio.run(made.run("fedavg", rounds=5, keys=["!head.*"]))
    assert result.model.digest == whole.model.digest
    assert {site: state.digest for site, state in result.states.items()} == {
        site: state.digest for site, state in whole.states.items()
    }


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (["neck.*"], "'neck.*' matches no tensor of the model: the model has body.w, head.w, body.b"),
        (["body.*", "!tail"], "'!tail' matches no tensor"),
        (["*"], "match every tensor of the model"),
        (["body.*", "!body.*"], "leave nothing to federate"),
        (["!@batchnorm"], "'!@batchnorm' matches no tensor"),
    ],
)
def test_keys_that_do_not_divide_the_model_are_an_error_before_training(given_, said):
    asked = []
    with pytest.raises(BadInput) as caught:
        testing.run("fedavg", asked.append, sites=SITES, model=START, rounds=2, keys=given_)
    assert said in f"{caught.value.what}: {caught.value.why}"
    assert not asked


@pytest.mark.parametrize("given_", [[], [""], ["!"], [3], ["@dropout"]])
def test_what_is_no_pattern_is_said_by_the_check_of_a_job(given_):
    with pytest.raises(BadInput, match='"keys" is'):
        testing.run("fedavg", add, sites=SITES, model=START, keys=given_)


def test_a_reply_without_a_tensor_that_stays_or_with_another_shape_is_refused():
    def short(task):
        return {name: array for name, array in task.model.items() if name != "head.w"}

    def long(task):
        return {**task.model, "head.w": np.zeros(3)}

    for train, said in (
        (short, "lacks the tensor 'head.w' · it stays at this site, and a reply has"),
        (long, "'head.w' of the update has the shape"),
    ):
        with pytest.raises(NotEnough, match=said):
            testing.run("fedavg", train, sites=("a",), model=START, rounds=1, keys=["body.*"])


def test_a_state_of_a_trainer_cannot_take_the_name_of_a_tensor_that_stays():
    def train(task):
        return convoy.Reply(task.model, state={"private/1/head.w": np.zeros(2)})

    with pytest.raises(NotEnough, match=r"the state has an array 'private/1/head\.w'"):
        testing.run("fedavg", train, sites=("a",), model=START, rounds=1, keys=["body.*"])


def test_layers_of_batch_normalisation_are_found_by_their_statistics_or_their_names():
    assert keys.batch_norm(RESNET) == {name for name in RESNET if name.startswith(("bn1", "layer1.0.downsample.1"))}
    keras = ["dense/kernel", "odd/gamma", "odd/moving_mean", "odd/moving_variance", "batch_normalization_2/beta"]
    assert keys.batch_norm(keras) == set(keras[1:])


@given(
    st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, unique=True), st.text("ab.*?", min_size=1, max_size=4)
)
def test_a_pattern_and_its_opposite_divide_the_names(names, pattern):
    inside, outside = keys.federated(names, [pattern]), keys.federated(names, [f"!{pattern}"])
    assert sorted(inside + outside) == sorted(names)
    assert keys.federated(names, ["*"]) == names
    assert keys.federated(inside, [pattern]) == inside  # the part that a round has committed is all of it
