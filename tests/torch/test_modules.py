"""A torch module's tensors as a model and back: names, ties, frozen parameters, dtypes; states of optimisers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convoy
from convoy import testing
from convoy.errors import BadInput
from convoy.model import frameworks
from convoy.model.arrays import Model

torch = pytest.importorskip("torch")
import convoy.torch  # noqa: E402 - it needs torch


class Language(torch.nn.Module):
    """A language model whose output layer has the weights of its embedding; its norm is frozen."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight
        for parameter in self.norm.parameters():
            parameter.requires_grad_(False)


def model_of(module):
    return Model(frameworks.to_arrays(convoy.torch.arrays(module)))


def test_a_tied_weight_has_one_name_and_frozen_parameters_stay_while_buffers_travel():
    names = list(convoy.torch.arrays(Language()))
    assert names == ["embed.weight", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]


def test_what_arrays_gives_load_takes_with_ties_and_integers_kept():
    one, other = Language(), Language()
    one.norm.num_batches_tracked += 5
    before = other.norm.weight.clone()
    convoy.torch.load(other, model_of(one))
    assert other.norm.num_batches_tracked.item() == 5
    assert torch.equal(other.head.weight, one.embed.weight)
    assert other.head.weight is other.embed.weight
    assert torch.equal(other.norm.weight, before)


def test_load_writes_in_place_so_that_an_optimiser_goes_on_with_the_same_parameters():
    net = torch.nn.Linear(2, 1)
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    convoy.torch.load(net, {"weight": np.zeros((1, 2), np.float32), "bias": np.zeros(1, np.float32)})
    net(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    assert net.weight.tolist() == [[-1.0, -1.0]]


@given(
    st.sampled_from(["float64", "float32", "float16", "bfloat16"]),
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20),
)
@settings(max_examples=30)
def test_each_dtype_comes_back_to_the_bit(kind, values):
    source, target = torch.nn.Module(), torch.nn.Module()
    for module, content in ((source, values), (target, [0.0] * len(values))):
        module.w = torch.nn.Parameter(torch.tensor(content).to(getattr(torch, kind)))
        module.register_buffer("n", torch.tensor([len(content)], dtype=torch.uint8))
    model = model_of(source)
    assert model["w"].dtype.name == kind
    convoy.torch.load(target, model)
    assert torch.equal(target.w, source.w)
    assert target.w.dtype == source.w.dtype


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it.pop("norm.running_mean"), ["missing: 'norm.running_mean'"]),
        (lambda it: it.update(x=it["embed.weight"]), ["unexpected: 'x'"]),
        (
            lambda it: it.update({"head.weight": it["embed.weight"]}),
            ["unexpected: 'head.weight' (it is tied to 'embed.weight')", "convoy.torch.arrays()"],
        ),
        (
            lambda it: it.update({"norm.weight": it["norm.running_mean"]}),
            ["'norm.weight' (it does not train here (requires_grad is False))"],
        ),
        (
            lambda it: it.update({"embed.weight": it["embed.weight"][:3]}),
            ["tensor 'embed.weight' of the task's model is float32 [3, 4], that of this module is float32 [7, 4]"],
        ),
        (
            lambda it: it.update({"embed.weight": it["embed.weight"].astype("f8")}),
            ["is float64 [7, 4], that of this module is float32 [7, 4]"],
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_by_name_before_anything_is_written(change, words):
    net = Language()
    arrays = {name: array + 1 for name, array in model_of(net).items()}
    change(arrays)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        convoy.torch.load(net, arrays)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_tensors_of_torch_are_loaded_and_refused_as_arrays_of_numpy_are():
    net = torch.nn.Linear(2, 1)
    convoy.torch.load(net, {"weight": torch.ones(1, 2), "bias": torch.ones(1)})
    assert net.weight.tolist() == [[1.0, 1.0]]
    with pytest.raises(BadInput, match=r"'weight' of the task's model is float32 \[2, 1\], .* is float32 \[1, 2\]"):
        convoy.torch.load(net, {"weight": torch.ones(2, 1), "bias": torch.ones(1)})
    with pytest.raises(BadInput, match="'bias' of the task's model is bfloat16"):
        convoy.torch.load(net, {"weight": torch.ones(1, 2), "bias": torch.ones(1, dtype=torch.bfloat16)})


def test_the_model_of_scaffold_is_refused_with_the_name_of_what_holds_it_apart():
    net = torch.nn.Linear(2, 1)
    with pytest.raises(BadInput) as caught:
        convoy.torch.load(net, {**model_of(net), "scaffold/weight": np.zeros((1, 2), "f4")})
    assert "mine.model" in caught.value.fix


def test_many_wrong_names_are_counted():
    with pytest.raises(BadInput, match="and 15 more"):
        convoy.torch.load(torch.nn.Linear(1, 1), {str(n): np.zeros(1) for n in range(20)})


def test_a_wrapper_leaves_no_trace_in_the_names():
    net = torch.nn.Linear(2, 1)
    assert list(convoy.torch.arrays(torch.nn.DataParallel(net))) == ["weight", "bias"]
    assert list(convoy.torch.arrays(torch.compile(net, backend="eager"))) == ["weight", "bias"]


# ---- states ----------------------------------------------------------------------------------------------------------
OPTIMISERS = {
    "adam": lambda it: torch.optim.Adam(it, lr=0.1, amsgrad=True),
    "momentum": lambda it: torch.optim.SGD(it, lr=0.1, momentum=0.9),
    "plain": lambda it: torch.optim.SGD(it, lr=0.1),
    "lbfgs": lambda it: torch.optim.LBFGS(it, max_iter=2),
    "groups": lambda it: torch.optim.AdamW([{"params": [one], "lr": 0.1 * (n + 1)} for n, one in enumerate(it)]),
}


def descend(net, optimiser, steps):
    for _ in range(steps):

        def closure():
            optimiser.zero_grad()
            loss = ((net(torch.tensor([[1.0, 2.0], [3.0, -1.0]])) - 1.0) ** 2).mean()
            loss.backward()
            return loss

        optimiser.step(closure)


def fixed():
    torch.manual_seed(3)
    return torch.nn.Linear(2, 1)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_that_was_kept_goes_on_as_one_that_never_stopped(name):
    net, other = fixed(), fixed()
    optimiser, later = OPTIMISERS[name](net.parameters()), OPTIMISERS[name](other.parameters())
    descend(net, optimiser, 3)
    convoy.torch.load(other, model_of(net))
    state = Model(frameworks.to_arrays(convoy.torch.keep(optimiser=optimiser)))
    assert convoy.torch.restore(state, optimiser=later)
    descend(net, optimiser, 3)
    descend(other, later, 3)
    assert torch.equal(net.weight, other.weight)


def test_a_scheduler_and_a_personal_layer_are_kept_under_their_names():
    net = fixed()
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimiser, 1, gamma=0.5)
    optimiser.step()
    scheduler.step()
    state = Model(frameworks.to_arrays(convoy.torch.keep(rate=scheduler, layer=net)))
    again = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net.parameters(), lr=1.0), 1, gamma=0.5)
    other = torch.nn.Linear(2, 1)
    convoy.torch.restore(state, rate=again, layer=other)
    assert again.get_last_lr() == [0.5]
    assert torch.equal(other.weight, net.weight)
    with pytest.raises(BadInput, match=r"has no 'optimiser'.*\nit has rate, layer"):
        convoy.torch.restore(state, optimiser=optimiser)


def test_without_a_state_everything_stays_as_it_is():
    assert convoy.torch.restore(Model({}), optimiser=torch.optim.SGD(fixed().parameters(), lr=1.0)) is False


class Odd:
    def __init__(self, state):
        self._state = state

    def state_dict(self):
        return self._state


@pytest.mark.parametrize(
    ("state", "words"), [({"a": [set()]}, "odd.a.0 is a set"), ({(1, 2): 3}, r"odd has the key \(1, 2\)")]
)
def test_what_cannot_be_kept_is_named_with_its_place(state, words):
    with pytest.raises(BadInput, match=words):
        convoy.torch.keep(odd=Odd(state))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), values, max_size=3))
def test_any_plain_state_comes_back_equal(state):
    class Taker:
        def load_state_dict(self, came):
            self.came = came

    taker = Taker()
    kept = Model(frameworks.to_arrays(convoy.torch.keep(it=Odd(state))))
    convoy.torch.restore(kept, it=taker)
    assert taker.came == state


def test_two_sites_with_kept_optimisers_train_through_the_server_s_rules():
    def train(task):
        net = fixed()
        optimiser = OPTIMISERS["adam"](net.parameters())
        convoy.torch.load(net, task.model)
        convoy.torch.restore(task.state, optimiser=optimiser)
        descend(net, optimiser, 2)
        steps = float(next(iter(optimiser.state_dict()["state"].values()))["step"])
        return convoy.Reply(
            convoy.torch.arrays(net), metrics={"steps": steps}, state=convoy.torch.keep(optimiser=optimiser)
        )

    result = testing.run("fedavg", train, sites=("a", "b"), model=convoy.torch.arrays(fixed()), rounds=4)
    assert result.history[-1]["metrics"]["steps"] == 8
