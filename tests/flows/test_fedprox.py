"""FedProx: its term in numpy and in torch, what it does to a site's answer, and FedAvg as its limit."""

import numpy as np
import pytest

import convoy
from convoy import testing
from convoy.flows.fleet import NotEnough

SITES = {"a": {"goal": 1.0, "slope": 1.0}, "b": {"goal": 3.0, "slope": 4.0}}
START = {"w": np.zeros(2)}


def held(task, steps=5):
    """Steps down a parabola of this site's own, held near the model."""
    term, w = convoy.Proximal(task), task.model.numpy()["w"]
    for _ in range(steps):
        slope = task.data["slope"] * (w - task.data["goal"])
        w = w - 0.1 * (slope + term.gradient({"w": w})["w"])
    return {"w": w}


def free(task):
    """The same steps, and nothing that holds them."""
    w = task.model.numpy()["w"]
    for _ in range(5):
        w = w - 0.1 * task.data["slope"] * (w - task.data["goal"])
    return {"w": w}


def test_a_mu_of_0_is_fedavg_to_the_bit():
    plain = testing.run("fedavg", free, sites=SITES, model=START, rounds=5)
    assert testing.run("fedprox", held, sites=SITES, model=START, rounds=5, mu=0).model.digest == plain.model.digest


def test_a_site_that_trains_to_its_end_stops_where_the_term_balances_its_own_slope():
    def train(task):
        return held(task, steps=2000)

    result = testing.run("fedprox", train, sites={"b": SITES["b"]}, model=START, rounds=1, mu=2.0)
    np.testing.assert_allclose(result.model["w"], 4 * 3 / (4 + 2.0))  # where slope (w - goal) + mu (w - 0) is 0


def test_a_larger_mu_drifts_less_from_the_optimum():
    best = (1 * 1 + 4 * 3) / 5
    apart = [
        abs(testing.run("fedprox", held, sites=SITES, model=START, rounds=300, mu=mu).model["w"][0] - best)
        for mu in (0, 2, 8)
    ]
    assert apart == sorted(apart, reverse=True)
    assert apart[2] < apart[0] / 2


def test_the_term_keeps_dtypes_leaves_out_integers_and_names_an_unknown_array():
    def train(task):
        term = convoy.Proximal(task)
        found = term.gradient({name: array + 1 for name, array in task.model.items()})
        assert {name: str(array.dtype) for name, array in found.items()} == {"w": "float64", "half": "float16"}
        assert found["half"].tolist() == [0.5]
        term.gradient({"v": np.zeros(1)})

    start = {"w": np.zeros(1), "half": np.zeros(1, np.float16), "n": np.zeros(1, np.int64)}
    with pytest.raises(NotEnough, match="the task's model has no array 'v'"):
        testing.run("fedprox", train, sites=("a",), model=start, rounds=1, mu=0.5)


def test_a_trainer_of_fedprox_under_another_workflow_is_told_so():
    with pytest.raises(NotEnough, match="this task has no proximal term"):
        testing.run("fedavg", held, sites=SITES, model=START, rounds=1)


def test_the_penalty_of_torch_has_the_gradient_of_numpy_and_is_0_for_a_mu_of_0():
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    net[1].bias.requires_grad_(False)

    def train(task):
        term = convoy.Proximal(task)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.25)
        penalty = term.penalty(net)
        if task.settings["mu"] == 0:
            assert penalty == 0.0
            return task.model
        net.zero_grad()
        penalty.backward()
        trained = {name: it for name, it in net.named_parameters() if it.requires_grad}
        wanted = term.gradient({name: it.detach().numpy() for name, it in trained.items()})
        for name, parameter in trained.items():
            np.testing.assert_allclose(parameter.grad.numpy(), wanted[name], rtol=1e-6)
        half = 0.5 * task.settings["mu"]
        size = sum(((it.detach().numpy() - task.model[name]) ** 2).sum() for name, it in trained.items())
        assert penalty.item() == pytest.approx(half * size, rel=1e-6)
        return task.model

    for mu in (0.0, 0.3):
        start = {name: it.detach().clone() for name, it in net.state_dict().items()}
        testing.run("fedprox", train, sites=("a",), model=start, rounds=1, mu=mu)
