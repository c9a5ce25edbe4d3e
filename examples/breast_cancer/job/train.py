"""Logistic regression on a hospital's own patients: what runs at every site."""

import numpy as np

import convoy

# The published range of each of the 30 measurements (mean, standard error and worst of ten properties of the cell
# nuclei) is common knowledge, so every hospital scales alike without showing a patient.
LOW = np.array(
    [6.981, 9.71, 43.79, 143.5, 0.053, 0.019, 0, 0, 0.106, 0.05, 0.112, 0.36, 0.757, 6.802, 0.002]
    + [0.002, 0, 0, 0.008, 0.001, 7.93, 12.02, 50.41, 185.2, 0.071, 0.027, 0, 0, 0.156, 0.055]
)
HIGH = np.array(
    [28.11, 39.28, 188.5, 2501, 0.163, 0.345, 0.427, 0.201, 0.304, 0.097, 2.873, 4.885, 21.98, 542.2, 0.031]
    + [0.135, 0.396, 0.053, 0.079, 0.03, 36.04, 49.54, 251.2, 4254, 0.223, 1.058, 1.252, 0.291, 0.664, 0.208]
)


def initial():
    """The model before the first round: 30 weights and a bias, all zero."""
    return {"weight": np.zeros(30), "bias": np.zeros(1)}


def patients(path):
    """Read (n, 30) measurements scaled to -1..1 and (n,) labels, 1.0 for malignant."""
    if str(path).endswith(".npz"):  # in a simulation
        with np.load(path) as arrays:
            x, y = arrays["x"], arrays["y"]
    else:
        table = np.loadtxt(path, delimiter=",", skiprows=1)
        x, y = table[:, :30], table[:, 30]
    return 2 * (x - LOW) / (HIGH - LOW) - 1, y


def probability(model, x):
    """The probability that each tumour is malignant."""
    return 1 / (1 + np.exp(-(x @ model["weight"] + model["bias"])))


def fit(model, x, y, *, lr, local_epochs, batch, l2, seed):
    """Mini-batch gradient descent from `model`; the same seed gives the same result."""
    weight, bias = model["weight"].copy(), model["bias"].copy()
    dice = np.random.default_rng(seed)
    for _ in range(local_epochs):
        order = dice.permutation(len(y))
        for part in np.split(order, range(batch, len(y), batch)):
            error = probability({"weight": weight, "bias": bias}, x[part]) - y[part]
            weight -= lr * (x[part].T @ error / len(part) + l2 * weight)
            bias -= lr * error.mean()
    return {"weight": weight, "bias": bias}


def scores(model, x, y):
    """Loss (cross-entropy), accuracy and AUC (Mann-Whitney) of a model."""
    p = np.clip(probability(model, x), 1e-9, 1 - 1e-9)
    pairs = p[y == 1][:, None] - p[y == 0][None, :]
    return {
        "loss": float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()),
        "accuracy": float(((p > 0.5) == y).mean()),
        "auc": float(((pairs > 0) + 0.5 * (pairs == 0)).mean()),
    }


@convoy.train
def train(task):
    """One round at this hospital."""
    x, y = patients(task.data["patients"])
    model = fit(task.model, x, y, seed=task.seed, **task.config)
    print(f"round {task.round}: trained on {len(y)} patients, {int(y.sum())} of them malignant")
    return convoy.Reply(model, weight=len(y), metrics=scores(model, x, y))


@convoy.evaluate
def evaluate(task):
    """Score the new federated model on this hospital's patients."""
    x, y = patients(task.data["patients"])
    return convoy.Reply(weight=len(y), metrics=scores(task.model, x, y))
