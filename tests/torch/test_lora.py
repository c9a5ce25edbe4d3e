"""Adapters alone travel; with FedEx-LoRA what sites compute with is the mean of the products, not their product."""

import numpy as np
import pytest

import convoy
from convoy import testing
from convoy.errors import BadInput
from convoy.model import frameworks
from convoy.model.arrays import Model

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
import convoy.torch.lora as lora  # noqa: E402 - it needs peft

SITES = {"a": 1.0, "b": 2.0, "c": 4.0}


def network(kind=torch.float32):
    torch.manual_seed(1)
    base = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["0", "2"], init_lora_weights=False)
    return peft.get_peft_model(base, config).to(kind)


def model_of(net, received=None):
    return Model(frameworks.to_arrays(lora.arrays(net, received)))


def weight(net, layer="0"):
    """Return the weight with which a layer computes."""
    found = net.get_submodule(f"base_model.model.{layer}")
    return (found.get_base_layer().weight + found.get_delta_weight("default")).detach()


def moved(task):
    """Move each number of the adapters by a draw of the site's own."""
    net = network()
    lora.load(net, task.model)
    dice = torch.Generator().manual_seed(task.seed)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=dice))
    return net


def train(task):
    net = moved(task)
    return convoy.Reply(lora.arrays(net, task.model), weight=SITES[task.site])


def test_the_adapters_alone_travel_by_the_names_of_peft():
    assert set(lora.arrays(network())) == {
        f"base_model.model.{layer}.lora_{part}.weight" for layer in (0, 2) for part in "AB"
    }


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_what_arrays_gives_load_takes(kind):
    one, other = network(kind), network(kind)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(1)
    own = other.get_submodule("base_model.model.0").get_base_layer().weight.clone()
    lora.load(other, model_of(one))
    assert all(torch.equal(it, lora.arrays(one)[name]) for name, it in lora.arrays(other).items())
    assert torch.equal(other.get_submodule("base_model.model.0").get_base_layer().weight, own)


def test_the_weight_of_each_layer_is_the_mean_of_the_sites_weights_round_after_round():
    trained = {}

    def watched(task):
        trained[task.round, task.site] = moved(task)
        return train(task)

    start, last = lora.arrays(network()), network()
    result = testing.run("fedex_lora", watched, sites=tuple(SITES), model=start, rounds=3, max_share=1)
    lora.load(last, result.model)
    total = sum(SITES.values())
    for layer in ("0", "2"):
        exact = sum(weight(trained[3, site], layer) * (count / total) for site, count in SITES.items())
        torch.testing.assert_close(weight(last, layer), exact, rtol=1e-5, atol=1e-5)
    plain, averaged = network(), testing.run("fedavg", train, sites=tuple(SITES), model=start, rounds=1, max_share=1)
    lora.load(plain, averaged.model)
    exact = sum(weight(trained[1, site]) * (count / total) for site, count in SITES.items())
    assert (weight(plain) - exact).abs().max() > 0.1  # which the mean of the adapters alone misses


def test_loading_twice_adds_a_residual_once_and_a_residual_of_zeros_takes_it_off():
    net, layer = network(), "base_model.model.0"
    own = net.get_submodule(layer).get_base_layer().weight.clone()
    model = {**model_of(net), f"{layer}.lora_residual.weight": np.ones((5, 6), np.float32)}
    for _ in range(2):
        lora.load(net, model)
    torch.testing.assert_close(net.get_submodule(layer).get_base_layer().weight, own + 2)  # alpha / r
    lora.load(net, {**model, f"{layer}.lora_residual.weight": np.zeros((5, 6), np.float32)})
    assert torch.equal(net.get_submodule(layer).get_base_layer().weight, own)
    assert set(lora.arrays(net)) == set(model) - {f"{layer}.lora_residual.weight"}


def test_one_site_leaves_no_residual_and_is_fedavg():
    one = testing.run("fedex_lora", train, sites=("b",), model=lora.arrays(network()), rounds=2).model
    other = testing.run("fedavg", train, sites=("b",), model=lora.arrays(network()), rounds=2).model
    for name, array in other.items():
        np.testing.assert_array_equal(one[name], array)
    assert max(np.abs(array).max() for name, array in one.items() if name not in other) < 1e-6


def test_the_order_of_sites_changes_no_bit():
    def run(sites):
        return testing.run("fedex_lora", train, sites=sites, model=lora.arrays(network()), rounds=2).model.digest

    assert run(("a", "b", "c")) == run(("c", "a", "b"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it.pop("base_model.model.0.lora_A.weight"), "missing: 'base_model.model.0.lora_A.weight'"),
        (lambda it: it.update({"x.lora_residual.weight": np.zeros((5, 6))}), "'x.lora_residual.weight'.*no layer here"),
        (
            lambda it: it.update({"base_model.model.0.lora_residual.weight": np.zeros((6, 5))}),
            r"shape \[6, 5\], its layer's is \[5, 6\]",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_by_name(change, words):
    arrays = dict(model_of(network()))
    change(arrays)
    with pytest.raises(BadInput, match=words):
        lora.load(network(), arrays)


def test_a_model_without_adapters_is_told_so():
    with pytest.raises(BadInput, match="Linear has no adapter 'default'"):
        lora.arrays(torch.nn.Linear(1, 1))
    with pytest.raises(BadInput, match="the model has no adapters of LoRA"):
        testing.run("fedex_lora", lambda task: task.model, sites=("a",), model={"w": np.zeros(2)}, rounds=1)
    with pytest.raises(BadInput, match="wanted mean: a residual"):
        testing.run("fedex_lora", train, sites=("a",), model={}, rounds=1, fold="median")
