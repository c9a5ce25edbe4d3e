"""Handwritten digits: each site grows a part of the forest on its own images."""

import zlib
from functools import cache

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import convoy


@cache
def images(site):
    """Return this site's own images for training, and a common part for measuring, the same at every call."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    mine = np.random.default_rng(zlib.crc32(site.encode())).choice(order[450:], 300, replace=False)
    return (x[mine], y[mine]), (x[order[:450]], y[order[:450]])


def train(task):
    """Grow as many trees as the job wants; another round grows others, as `task.seed` differs."""
    forest = RandomForestClassifier(task.settings["trees"], random_state=task.seed)
    return convoy.trees.forest(task, forest.fit(*images(task.site)[0]))


def evaluate(task):
    """Measure the united forest on images that no site trains on."""
    return convoy.trees.evaluate(task, *images(task.site)[1])
