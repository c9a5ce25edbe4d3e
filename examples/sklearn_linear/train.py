"""Breast cancer or not: a linear classifier of scikit-learn that continues from round to round."""

import zlib
from functools import cache

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier

import convoy

CLASSES = [0, 1]


def classifier(seed=0):
    """Return the classifier, not fitted."""
    return SGDClassifier(loss="log_loss", alpha=0.001, learning_rate="constant", eta0=0.01, random_state=seed)


def initial():
    """The model before the first round: zeros."""
    return convoy.sklearn.start(classifier(), features=30, classes=CLASSES)


@cache
def patients(site):
    """Return this site's own rows for training, and a common part for measuring, the same at every call."""
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)  # a real federation finds the scale first: see examples/own_workflow
    order = np.random.default_rng(0).permutation(len(y))
    mine = np.random.default_rng(zlib.crc32(site.encode())).choice(order[140:], 150, replace=False)
    return (x[mine], y[mine]), (x[order[:140]], y[order[:140]])


def train(task):
    """One pass over this site's rows."""
    x, y = patients(task.site)[0]
    model = convoy.sklearn.load(classifier(task.seed), task.model, classes=CLASSES)
    model.partial_fit(x, y)
    return convoy.Reply(convoy.sklearn.arrays(model), weight=len(y))


def evaluate(task):
    """Measure the model on rows that no site trains on."""
    x, y = patients(task.site)[1]
    model = convoy.sklearn.load(classifier(), task.model, classes=CLASSES)
    return convoy.Reply(weight=len(y), metrics={"accuracy": float(model.score(x, y))})
