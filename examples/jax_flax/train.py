"""Handwritten digits, a network in Flax, and Adam of Optax whose state stays at the site from round to round."""

import functools
import zlib

import convoy
import convoy.jax  # first: without the package, it says what to install

# isort: split
import jax
import numpy as np
import optax
from flax import linen
from sklearn.datasets import load_digits


class Network(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(10)(linen.relu(linen.Dense(32)(x)))


NET = Network()


def tree():
    return NET.init(jax.random.key(1), np.zeros((1, 64), np.float32))


def initial():
    """The model before the first round."""
    return convoy.jax.arrays(tree())


def rows(site):
    """Return this site's own images and labels, the same at every call: 400 of 1797."""
    x, y = load_digits(return_X_y=True)
    mine = np.random.default_rng(zlib.crc32(site.encode())).choice(len(y), 400, replace=False)
    return (x[mine] / 16).astype(np.float32), y[mine]


@jax.value_and_grad
def measure(variables, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(NET.apply(variables, x), y).mean()


@functools.partial(jax.jit, static_argnames="lr")  # compiled in the first task, for all of them
def step(variables, state, x, y, *, lr):
    loss, slope = measure(variables, x, y)
    change, state = optax.adam(lr).update(slope, state)
    return optax.apply_updates(variables, change), state, loss


def train(task):
    (x, y), lr = rows(task.site), task.config["lr"]
    variables = convoy.jax.load(jax.eval_shape(tree), task.model)  # of the tree, only names and shapes are needed
    state = optax.adam(lr).init(variables)
    if task.state:
        state = convoy.jax.load(state, task.state)

    dice = np.random.default_rng(task.seed)  # a task that is done again gives the same bits
    for _ in range(task.config["epochs"]):
        for batch in dice.permutation(len(y)).reshape(-1, 40):
            variables, state, loss = step(variables, state, x[batch], y[batch], lr=lr)
    accuracy = float((NET.apply(variables, x).argmax(1) == y).mean())
    print(f"round {task.round}: loss {float(loss):.3f}, accuracy {accuracy:.1%}")
    return convoy.Reply(
        convoy.jax.arrays(variables),
        weight=len(y),
        metrics={"loss": float(loss), "accuracy": accuracy},
        state=convoy.jax.arrays(state),
    )
