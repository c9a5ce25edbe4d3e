"""The network and the data of the script: a linear regression in numpy."""

import zlib

import numpy as np


def initial():
    """The model before the first round."""
    return {"weight": np.zeros((8, 1), np.float32), "bias": np.zeros(1, np.float32)}


def load(site):
    """Return this site's own features and targets, the same at every call."""
    dice = np.random.default_rng(zlib.crc32(site.encode()))
    x = dice.normal(size=(200, 8)).astype(np.float32)
    truth = np.random.default_rng(5).normal(size=(8, 1)).astype(np.float32)
    return x, x @ truth + 0.1 * dice.normal(size=(200, 1)).astype(np.float32)


def fit(params, x, y, *, lr, epochs):
    """Return the parameters after some epochs of gradient descent."""
    weight, bias = params["weight"], params["bias"]
    for _ in range(epochs):
        error = x @ weight + bias - y
        weight = weight - lr * x.T @ error / len(x)
        bias = bias - lr * error.mean(axis=0)
    return {"weight": weight, "bias": bias}


def loss(params, x, y):
    """Return the mean squared error."""
    return float(np.mean((x @ params["weight"] + params["bias"] - y) ** 2))
