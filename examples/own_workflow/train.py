"""Logistic regression on features of very different size: without a common scale it would not learn."""

import zlib

import numpy as np

import convoy

UNITS = np.array([1e-3, 1.0, 40.0, 2e4])  # a ratio, a count, an age, an income
TRUTH = np.array([1.5, -2.0, 1.0, 0.5])  # what each is worth, once they are of one size


def initial():
    """The model before the first round, and a scale that changes nothing."""
    features = len(UNITS)
    return {"weight": np.zeros(features), "bias": np.zeros(1), "mean": np.zeros(features), "scale": np.ones(features)}


def patients(site, count=500):
    """Return this site's own features and labels, the same at every call."""
    dice = np.random.default_rng(zlib.crc32(site.encode()))
    plain = dice.normal(dice.normal(scale=0.5), 1.0, size=(count, len(UNITS)))
    labels = (dice.random(count) < 1 / (1 + np.exp(-plain @ TRUTH))).astype(float)
    return UNITS * (plain + 3.0), labels


def statistics(task):
    """What the workflow asks first: sums, and no patient's row."""
    x, _ = patients(task.site)
    return convoy.Reply(
        {"count": np.array([float(len(x))]), "sum": x.sum(axis=0), "squares": (x**2).sum(axis=0)}, weight=len(x)
    )


def train(task):
    """One round on this site's patients, scaled as the whole federation's are."""
    x, y = patients(task.site)
    model = task.model.numpy()
    x = (x - model["mean"]) / model["scale"]
    for _ in range(task.config["steps"]):
        error = 1 / (1 + np.exp(-(x @ model["weight"] + model["bias"]))) - y
        model["weight"] -= task.config["lr"] * x.T @ error / len(y)
        model["bias"] -= task.config["lr"] * error.mean()
    right = (x @ model["weight"] + model["bias"] > 0) == y
    print(f"round {task.round}: {right.mean():.1%} of {len(y)} patients told right")
    return convoy.Reply(model, weight=len(y), metrics={"accuracy": float(right.mean())})
