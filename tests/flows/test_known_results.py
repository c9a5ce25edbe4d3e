"""Real data with skewed labels: what each workflow reaches, next to pooled training and to federated averaging."""

from functools import cache

import numpy as np
import pytest

import convoy
from convoy import partition, testing

SITES, ROUNDS, STEPS, RATE = 10, 10, 20, 0.5


@cache
def digits():
    """Scikit-learn's handwritten digits: each site's rows, where labels are skewed (Dirichlet, 0.1), and a fifth apart.

    1797 images of 8 x 8 pixels.
    """
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(y))
    x, y, apart = x[order] / 16, y[order], len(y) // 5
    parts = partition.dirichlet(y[apart:], sites=SITES, alpha=0.1, seed=3)
    sites = {f"s{number}": {"x": x[apart:][rows], "y": y[apart:][rows]} for number, rows in enumerate(parts.rows)}
    return sites, (x[apart:], y[apart:]), (x[:apart], y[:apart])


def start():
    return {"w": np.zeros((64, 10)), "b": np.zeros(10)}


def slopes(model, x, y):
    """Return the gradient of softmax regression."""
    scores = x @ model["w"] + model["b"]
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    wrong = shares / shares.sum(axis=1, keepdims=True) - np.eye(10)[y]
    return {"w": x.T @ wrong / len(y), "b": wrong.mean(axis=0)}


def accuracy(model):
    x, y = digits()[2]
    return float(((x @ model["w"] + model["b"]).argmax(axis=1) == y).mean())


def descend(model, data, extra=lambda _: {"w": 0.0, "b": 0.0}, steps=STEPS):
    for _ in range(steps):
        slope, more = slopes(model, data["x"], data["y"]), extra(model)
        model = {name: model[name] - RATE * (slope[name] + more[name]) for name in model}
    return model


def plain(task):
    return convoy.Reply(descend(task.model.numpy(), task.data), weight=len(task.data["y"]))


def proximal(task):
    term = convoy.Proximal(task)
    return convoy.Reply(descend(task.model.numpy(), task.data, term.gradient), weight=len(task.data["y"]))


def streamed(task):
    mine = convoy.Streaming(task)
    return mine.reply(descend(mine.model, task.data), weight=len(task.data["y"]))


def corrected(task):
    mine = convoy.Scaffold(task)
    after = descend(mine.model, task.data, lambda _: mine.correction)
    return mine.reply(after, steps=STEPS, lr=RATE, weight=len(task.data["y"]))


def epochs(data):
    """Return the steps of two epochs of 20 images a step: the larger a site is, the more."""
    return max(1, len(data["y"]) // 10)


def uneven(task):
    return convoy.Reply(descend(task.model.numpy(), task.data, steps=epochs(task.data)), weight=len(task.data["y"]))


def normalised(task):
    mine, steps = convoy.FedNova(task), epochs(task.data)
    return mine.reply(descend(mine.model, task.data, steps=steps), steps=steps, weight=len(task.data["y"]))


def regularised(task):
    mine = convoy.FedDyn(task)
    return mine.reply(descend(mine.model, task.data, mine.gradient), weight=len(task.data["y"]))


@cache
def reached(workflow, train=plain, **parameters):
    result = testing.run(workflow, train, sites=digits()[0], model=start(), **{"rounds": ROUNDS} | parameters)
    return accuracy(result.model)


@cache
def pooled():
    x, y = digits()[1]
    model = start()
    for _ in range(ROUNDS):
        model = descend(model, {"x": x, "y": y})
    return accuracy(model)


# The accuracy of each after 10 rounds of 20 steps, within 0.02. Ten sites have 20 to 305 images of 2 to 5 digits each.
# Momentum, Adam and Yogi with a rate of 0.1, SCAFFOLD and FedDyn reach what pooled training does (0.94), FedAvg not
# yet.
# Where sites make steps in proportion to their images, 2 to 30 of them, FedNova is better than FedAvg by 0.06.
# Not better here: Adam and Yogi with their default rate of 0.01, whose steps are too short for 10 rounds; and FedProx,
# because each site's problem is convex and its 20 steps do not overfit, so that the term only slows each of them down.
# Cyclic transfer makes ten times as many steps one after the other and gains little by them: the site that trained last
# has digits of its own, and the model forgets those of the others. FedAsync, with as many answers as ten rounds have,
# suffers from the same; it helps that stale answers count less. FedBuff reaches more in ten rounds of five answers than
# FedAvg in ten of ten. Twenty rounds of DiLoCo with two fragments send as much as ten without, and reach as much.
# Clipping at the median norm shortens the updates of the sites that have the most to say.
REACHED = [
    ("fedavg", plain, {}, 0.88),
    ("fedavgm", plain, {}, 0.94),
    ("fedavgm", plain, {"momentum": 0.0}, 0.88),
    ("fedadam", plain, {"server_lr": 0.1}, 0.95),
    ("fedadam", plain, {}, 0.72),
    ("fedyogi", plain, {"server_lr": 0.1}, 0.955),
    ("fedyogi", plain, {}, 0.72),
    ("fedadagrad", plain, {}, 0.905),
    ("fedprox", proximal, {"mu": 0.01}, 0.87),
    ("fedprox", proximal, {"mu": 0.1}, 0.845),
    ("scaffold", corrected, {}, 0.94),
    ("feddyn", regularised, {}, 0.95),
    ("feddyn", regularised, {"alpha": 1.0}, 0.825),
    ("fedavg", uneven, {}, 0.85),
    ("fednova", normalised, {}, 0.91),
    ("cyclic", plain, {}, 0.89),
    ("cyclic", plain, {"order": "random"}, 0.84),
    ("diloco", plain, {}, 0.945),
    ("diloco", streamed, {"fragments": 2}, 0.905),
    ("diloco", streamed, {"fragments": 2, "rounds": 20}, 0.95),
    ("fedavgm", plain, {"nesterov": True}, 0.95),
    ("fedbuff", plain, {"buffer": 5}, 0.91),
    ("fedasync", plain, {"rounds": 100}, 0.775),
    ("fedasync", plain, {"rounds": 100, "staleness": "constant"}, 0.615),
    ("fedavg", plain, {"clip": 1.0}, 0.86),
    ("fedavg", plain, {"clip": 2.0}, 0.88),
]


@pytest.mark.parametrize(("workflow", "train", "parameters", "wanted"), REACHED)
def test_each_workflow_reaches_its_known_accuracy_on_digits_with_skewed_labels(workflow, train, parameters, wanted):
    assert reached(workflow, train, **parameters) == pytest.approx(wanted, abs=0.02)


@cache
def personal(lam):
    """Return the accuracy of the common and of the personal models, each on the half of a site's images kept apart."""

    def half(task, at):
        return {name: rows[at::2] for name, rows in task.data.items()}

    def train(task):
        mine, data = convoy.Ditto(task), half(task, 0)
        return mine.reply(descend(mine.model, data), descend(mine.personal, data, mine.gradient), weight=len(data["y"]))

    def evaluate(task):
        mine, (x, y) = convoy.Ditto(task), half(task, 1).values()
        found = {"common": mine.model, "own": mine.personal}
        right = {name: (x @ it["w"] + it["b"]).argmax(axis=1) == y for name, it in found.items()}
        return convoy.Reply(weight=len(y), metrics={name: float(it.mean()) for name, it in right.items()})

    functions = {"train": train, "evaluate": evaluate}
    result = testing.run("ditto", functions, sites=digits()[0], model=start(), rounds=ROUNDS, lam=lam, evaluate=True)
    return result.history[-1]["metrics"]


# With so skewed labels, a site's own digits are easier than all of them: training alone reaches 0.954. The common model
# adds little to that.
@pytest.mark.parametrize(("lam", "wanted"), [(0.0, 0.954), (0.03, 0.958), (1.0, 0.953)])
def test_personal_models_of_ditto_are_better_at_each_site_than_the_common_one(lam, wanted):
    found = personal(lam)
    assert found["common"] == pytest.approx(0.83, abs=0.02)
    assert found["own"] == pytest.approx(wanted, abs=0.01)


def test_a_little_of_the_common_model_helps_personal_models():
    assert personal(0.03)["own"] > personal(0.0)["own"]


def test_fednova_is_better_than_averaging_where_sites_make_different_numbers_of_steps():
    assert reached("fednova", normalised) > reached("fedavg", uneven) + 0.04


def test_pooled_training_reaches_more_than_averaging_and_no_more_than_momentum_adam_and_scaffold():
    assert pooled() == pytest.approx(0.94, abs=0.02)
    assert pooled() > reached("fedavg") + 0.04
    assert reached("fedavgm") > pooled() - 0.02
    assert reached("fedadam", server_lr=0.1) > pooled() - 0.02
    assert reached("scaffold", corrected) > pooled() - 0.02
    assert reached("feddyn", regularised) > pooled() - 0.02
