"""`convoy job new`: a job folder that runs as it is, on any federation, with numpy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from convoy.errors import BadInput
from convoy.spec import names

JOB: Final = """\
# What this job is made of. `convoy job check {name}` checks it, `convoy job submit {name} --watch` runs it.
name: {name}

# The server's half: built in (fedavg), or a function of your own in this folder (flow.py:run).
workflow: fedavg
with:
  rounds: 5            # turns of: send the model out, train at the sites, average
  min_sites: 1         # a round needs the updates of so many sites
  evaluate: true       # sites also measure each round's model
  best: min:loss       # keep the round whose loss is the least as the best model
  # deadline: 2m       # a round does not wait longer than this for its last site
  # sample: 10         # ask so many sites, chosen anew in each round; 0 asks all

# The sites' half: a script with @convoy.train functions or a loop over convoy.tasks(), or train.py:function.
trainer: train.py

# Where the first model comes from: a function that returns arrays, or a .safetensors file in this folder.
model: train.py:initial

# Your own settings, for the trainer: task.config.
config:
  learning_rate: 0.5
  epochs: 5

# How long a site may show no sign of progress before the job goes on without it.
patience: 10m

# What a site sets aside for this job.
# resources: {{cpu: 1, memory: 1Gi, gpu: 0}}

# Only these sites, instead of all:
# sites: [site-1, site-2]
"""

TRAIN: Final = '''\
"""Logistic regression, trained where the data is. Each site draws its own patients; none of them leaves it."""

import zlib

import convoy
import numpy as np

FEATURES = 8
TRUTH = np.random.default_rng(7).normal(size=FEATURES)  # what every site's data follows, and nobody knows


def initial():
    """The model that round 1 starts from."""
    return {"weights": np.zeros(FEATURES), "bias": np.zeros(1)}


def patients(site, count=400):
    """This site's data: its own case mix, the same at every call. Yours would come from task.data["name"]."""
    random = np.random.default_rng(zlib.crc32(site.encode()))
    x = random.normal(loc=random.normal(scale=0.5, size=FEATURES), size=(count, FEATURES))
    y = (random.random(count) < 1 / (1 + np.exp(-(x @ TRUTH)))).astype(float)
    return x[: count // 2], y[: count // 2], x[count // 2 :], y[count // 2 :]


def probability(model, x):
    return 1 / (1 + np.exp(-(x @ model["weights"] + model["bias"])))


def measure(model, x, y):
    p = np.clip(probability(model, x), 1e-9, 1 - 1e-9)
    loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    return {"loss": float(loss), "accuracy": float(np.mean((p > 0.5) == y))}


@convoy.train
def train(task):
    x, y, _, _ = patients(task.site)
    model = task.model.numpy()
    for _ in range(task.config["epochs"]):
        error = probability(model, x) - y
        model["weights"] -= task.config["learning_rate"] * x.T @ error / len(y)
        model["bias"] -= task.config["learning_rate"] * error.mean()
    metrics = measure(model, x, y)
    print(f"round {task.round}: loss {metrics['loss']:.4f} on {len(y)} patients")
    return convoy.Reply(model, weight=len(y), metrics=metrics)


@convoy.evaluate
def evaluate(task):
    _, _, x, y = patients(task.site)
    return convoy.Reply(weight=len(y), metrics=measure(task.model, x, y))
'''


def write(name: str, here: Path) -> Path:
    """Write the folder `here/name` and return it. Raises `BadInput` for a bad name or a folder that is there."""
    try:
        names.job(name)
    except ValueError as wanted:
        raise BadInput(f"{name!r} is no name for a job", why=f"wanted {wanted}") from wanted
    folder = here / name
    try:
        folder.mkdir()
    except FileExistsError as problem:
        raise BadInput(f"{folder} is there already", fix="choose another name, or remove it") from problem
    (folder / "job.yaml").write_text(JOB.format(name=name))
    (folder / "train.py").write_text(TRAIN)
    return folder
