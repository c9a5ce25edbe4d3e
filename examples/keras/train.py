"""Handwritten digits and a model of Keras 3, whose backend here is JAX."""

import os
import zlib

os.environ.setdefault("KERAS_BACKEND", "jax")  # or torch; before the first import of Keras

import convoy
import convoy.keras  # first: without the package, it says what to install

# isort: split
import keras
import numpy as np
from sklearn.datasets import load_digits


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    )


def initial():
    """The model before the first round."""
    return convoy.keras.arrays(network())


def rows(site):
    """Return this site's own images and labels, the same at every call: 400 of 1797."""
    x, y = load_digits(return_X_y=True)
    mine = np.random.default_rng(zlib.crc32(site.encode())).choice(len(y), 400, replace=False)
    return (x[mine] / 16).astype(np.float32), y[mine]


def main():
    (x, y), net = rows(convoy.get_site_name()), network()
    for task in convoy.tasks():
        keras.utils.set_random_seed(task.seed)  # a task that is done again gives the same bits
        net.compile(keras.optimizers.Adam(task.config["lr"]), "sparse_categorical_crossentropy", metrics=["accuracy"])
        convoy.keras.load(net, task.model)
        if task.kind == "evaluate":
            task.reply(metrics=net.evaluate(x[320:], y[320:], verbose=0, return_dict=True), weight=len(y))
            continue
        past = net.fit(x[:320], y[:320], batch_size=32, epochs=task.config["epochs"], verbose=0).history
        print(f"round {task.round}: loss {past['loss'][-1]:.3f}")
        task.reply(convoy.keras.arrays(net), weight=len(y), metrics={"loss": past["loss"][-1]})


if __name__ == "__main__":
    main()
