"""A network with one hidden layer on scikit-learn's handwritten digits; the sites hold very unlike labels."""

import numpy as np

import convoy

HIDDEN = 32


def initial():
    """Return the first model: 64 pixels, 32 hidden units, 10 digits."""
    dice = np.random.default_rng(0)
    return {
        "hidden.weight": dice.normal(0, np.sqrt(2 / 64), (64, HIDDEN)),
        "hidden.bias": np.zeros(HIDDEN),
        "output.weight": dice.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, 10)),
        "output.bias": np.zeros(10),
    }


def digits():
    """Return `x` (1797, 64) in 0..1 and `y` (1797,), 0 to 9."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.data / 16, found.target


def read(task):
    """Return this site's training and test rows: every fifth row is for tests."""
    with np.load(task.data["digits"]) as arrays:
        x, y = arrays["x"], arrays["y"]
    test = np.arange(len(y)) % 5 == 4
    return (x[~test], y[~test]), (x[test], y[test])


def forward(model, x):
    """Return the hidden units' values and the probability of each digit."""
    hidden = np.maximum(x @ model["hidden.weight"] + model["hidden.bias"], 0)
    scores = hidden @ model["output.weight"] + model["output.bias"]
    scores -= scores.max(axis=1, keepdims=True)
    return hidden, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def gradient(model, x, y):
    """Return the gradient of the mean cross-entropy, by name."""
    hidden, share = forward(model, x)
    share[np.arange(len(y)), y] -= 1
    share /= len(y)
    back = (share @ model["output.weight"].T) * (hidden > 0)
    return {
        "hidden.weight": x.T @ back,
        "hidden.bias": back.sum(axis=0),
        "output.weight": hidden.T @ share,
        "output.bias": share.sum(axis=0),
    }


def descend(task, model, corrected):
    """Train a model in place on this site's rows, and return how many steps that took.

    `corrected`: what a workflow makes of a gradient, out of the model and that gradient.
    """
    (x, y), _ = read(task)
    dice, steps = np.random.default_rng(task.seed), 0
    for _ in range(task.config["epochs"]):
        order = dice.permutation(len(y))
        for rows in np.split(order, range(task.config["batch"], len(y), task.config["batch"])):
            for name, slope in corrected(model, gradient(model, x[rows], y[rows])).items():
                model[name] -= task.config["lr"] * slope
            steps += 1
    return steps


def plain(task):
    """Train for every workflow whose correction is the server's alone."""
    return answer(task, lambda _, slopes: slopes)


def fedprox(task):
    """Train with the proximal term."""
    proximal = convoy.Proximal(task)
    return answer(task, lambda model, slopes: added(slopes, proximal.gradient(model)))


def scaffold(task):
    """Train with the control variates."""
    variates = convoy.Scaffold(task)
    model = variates.model
    (_, y), _ = read(task)
    steps = descend(task, model, lambda _, slopes: added(slopes, variates.correction))
    return variates.reply(model, steps=steps, lr=task.config["lr"], weight=float(len(y)))


def xgboost_histogram(task):
    """Sum gradients for the trees of all sites."""
    return convoy.trees.histograms(task, *read(task)[0])


def xgboost_bagging(task):
    """Grow trees with XGBoost."""
    return convoy.trees.boost(task, *read(task)[0])


def random_forest(task):
    """Grow trees with scikit-learn."""
    from sklearn.ensemble import RandomForestClassifier

    grown = RandomForestClassifier(task.settings["trees"], random_state=task.seed)
    return convoy.trees.forest(task, grown.fit(*read(task)[0]))


def feddyn(task):
    """Train with the dynamic regulariser."""
    dynamic = convoy.FedDyn(task)
    (_, y), _ = read(task)
    descend(task, dynamic.model, lambda model, slopes: added(slopes, dynamic.gradient(model)))
    return dynamic.reply(dynamic.model, weight=float(len(y)))


def fednova(task):
    """Train as plain does, and count the steps."""
    normalised = convoy.FedNova(task)
    (_, y), _ = read(task)
    steps = descend(task, normalised.model, lambda _, slopes: slopes)
    return normalised.reply(normalised.model, steps=steps, weight=float(len(y)))


def diloco(task):
    """Train the whole model, and answer with the round's fragment."""
    streaming = convoy.Streaming(task)
    (_, y), _ = read(task)
    descend(task, streaming.model, lambda _, slopes: slopes)
    return streaming.reply(streaming.model, weight=float(len(y)))


def ditto(task):
    """Train the common model, then this site's own one."""
    own = convoy.Ditto(task)
    (_, y), _ = read(task)
    descend(task, own.model, lambda _, slopes: slopes)
    descend(task, own.personal, lambda model, slopes: added(slopes, own.gradient(model)))
    return own.reply(own.model, own.personal, weight=float(len(y)))


def aggregate(task):
    """Fold the updates of a round, under swarm."""
    return convoy.aggregate(task)


def answer(task, corrected):
    """Train, and return the answer."""
    model = task.model.numpy()
    (_, y), _ = read(task)
    descend(task, model, corrected)
    return convoy.Reply(model, weight=float(len(y)))


def added(slopes, more):
    """Return the sum of two gradients, by name."""
    return {name: slope + more[name] for name, slope in slopes.items()}


def evaluate(task):
    """Measure the accuracy on this site's test rows."""
    _, (x, y) = read(task)
    if "about" in task.model:  # trees
        return convoy.trees.evaluate(task, x, y) if len(y) else convoy.Reply(weight=0.0)
    model = convoy.Ditto(task).personal  # under every other workflow it is the task's model
    right = (forward(model, x)[1].argmax(axis=1) == y).mean() if len(y) else 0.0
    return convoy.Reply(weight=float(len(y)), metrics={"accuracy": float(right)})
