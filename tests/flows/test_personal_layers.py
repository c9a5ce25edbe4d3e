"""Layers that stay at each site, on scikit-learn's digits: FedBN under shifted features, FedRep under skewed labels."""

from functools import cache

import numpy as np
import pytest

import convoy
from convoy import testing
from tests.flows.test_known_results import digits

torch = pytest.importorskip("torch")

SCANNERS = {  # how each of five sites sees the same kind of images: five scanners with settings of their own
    "as it is": lambda x: x,
    "contrast": lambda x: 3 * x - 1,
    "pale": lambda x: 0.2 * x + 0.8,
    "gamma": lambda x: 5 * x**2,
    "dark": lambda x: 0.3 * x - 0.2,
}


@cache
def scanned():
    """Each site's 200 images of its own as its scanner sees them, and those of 797 others that it measures with."""
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(y))
    x, y = torch.tensor(x[order] / 16, dtype=torch.float32), torch.tensor(y[order])
    parts = zip(SCANNERS.items(), torch.arange(1000).split(200), strict=True)
    return {name: {"x": see(x[at]), "y": y[at], "tests": (see(x[1000:]), y[1000:])} for (name, see), at in parts}


def normalising():
    torch.manual_seed(1)
    layers = torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    return torch.nn.Sequential(*layers)


def loaded(task, net):
    net.load_state_dict(task.model.torch())
    return net


def descend(net, batches, lr):
    steps = torch.optim.SGD([it for it in net.parameters() if it.requires_grad], lr=lr)
    for x, y in batches:
        steps.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        steps.step()


def right(net, x, y):
    with torch.no_grad():
        return float((net.eval()(x).argmax(1) == y).float().mean())


def train_normalising(task):
    net, x, y = loaded(task, normalising()), task.data["x"], task.data["y"]
    dice = torch.Generator().manual_seed(task.seed)
    for _ in range(2):
        descend(net, [(x[rows], y[rows]) for rows in torch.randperm(len(y), generator=dice).split(25)], lr=0.1)
    return convoy.Reply(net.state_dict(), weight=len(y))


@cache
def normalised(workflow):
    functions = {
        "train": train_normalising,
        "evaluate": lambda task: {"accuracy": right(loaded(task, normalising()), *task.data["tests"])},
    }
    return testing.run(
        workflow, functions, sites=scanned(), model=lambda: normalising().state_dict(), rounds=8, evaluate=True
    )


def accuracy(result):
    return result.history[-1]["metrics"]["accuracy"]


def test_fedbn_is_better_than_averaging_where_each_site_sees_with_a_scanner_of_its_own():
    assert accuracy(normalised("fedavg")) == pytest.approx(0.58, abs=0.05)
    assert accuracy(normalised("fedbn")) == pytest.approx(0.90, abs=0.04)


def test_fedbn_federates_all_but_the_layer_of_batch_normalisation():
    result = normalised("fedbn")
    assert list(result.model) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    kept = {name.rpartition("/")[2] for name in result.states["pale"]}
    assert kept == {f"1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert result.states["pale"]["private/6/1.num_batches_tracked"] == 8 * 2 * 8  # batches that this site saw


def two_layers():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))


def half(task, at):
    x, y = task.data["x"][at::2], task.data["y"][at::2]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def jointly(task):
    net, data = loaded(task, two_layers()), half(task, 0)
    descend(net, [data] * 10, lr=0.3)
    return convoy.Reply(net.state_dict(), weight=len(data[1]))


def in_turn(task):
    """Collins et al., 2021, algorithm 1: first steps on the head alone, then steps on the body alone."""
    net, data = loaded(task, two_layers()), half(task, 0)
    for names, steps in ((task.private, 10), (set(task.model) - task.private, 5)):
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name in names)
        descend(net, [data] * steps, lr=0.3)
    return convoy.Reply(net.state_dict(), weight=len(data[1]))


def evaluate(task):
    data = half(task, 1)
    return convoy.Reply(weight=len(data[1]), metrics={"accuracy": right(loaded(task, two_layers()), *data)})


# On a site's own digits. A head at each site, trained with the body or in turn with it (FedRep), is better than one
# head for all. It is no better than a site that trains everything but ten numbers alone (0.95): the images are easy.
@pytest.mark.parametrize(
    ("train", "keys", "wanted"),
    [(jointly, None, 0.85), (jointly, ["!2.*"], 0.955), (in_turn, ["!2.*"], 0.95), (jointly, ["2.bias"], 0.955)],
)
def test_heads_of_their_own_serve_sites_with_skewed_labels_better_than_one_for_all(train, keys, wanted):
    functions = {"train": train, "evaluate": evaluate}
    result = testing.run(
        "fedavg", functions, sites=digits()[0], model=two_layers().state_dict(), rounds=20, evaluate=True, keys=keys
    )
    assert accuracy(result) == pytest.approx(wanted, abs=0.02)
