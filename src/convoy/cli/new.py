"""`convoy job new`: a job folder that runs as it is, on any federation with numpy alone, or a copy of an example."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from shutil import copyfile
from typing import Final

import convoy
from convoy.errors import BadInput
from convoy.flows.source import near
from convoy.spec import names

JOB: Final = """\
# The settings of this job. `convoy job check {name}` checks it, `convoy job submit {name} --watch` runs it.
name: {name}

# The workflow runs at the server: built in (fedavg), or your own function in this folder (flow.py:run).
workflow: fedavg
with:
  rounds: 5            # in each round: send the model out, train at the sites, average
  min_sites: 1         # a round needs the updates of at least this many sites
  evaluate: true       # sites also measure each round's model
  best: min:loss       # keep the model with the lowest loss as the best model
  # deadline: 2m       # a round does not wait longer than this for its last site
  # sample: 10         # ask this many sites, drawn at random in each round; 0 asks all

# The trainer runs at the sites: a script with @convoy.train functions or a loop over convoy.tasks(), or
# train.py:function.
trainer: train.py

# Where the first model comes from: a function that returns arrays, or a .safetensors file in this folder.
model: train.py:initial

# Your own settings. The trainer reads them from task.config.
config:
  learning_rate: 0.5
  epochs: 5

# How long a site may make no progress before the job goes on without it.
patience: 10m

# What this job reserves at each site.
# resources: {{cpu: 1, memory: 1Gi, gpu: 0}}

# Only these sites, instead of all:
# sites: [site-1, site-2]
"""

TRAIN: Final = '''\
"""Logistic regression, trained where the data is. Each site generates its own patients; their data never leaves it."""

import zlib

import convoy
import numpy as np

FEATURES = 8
TRUTH = np.random.default_rng(7).normal(size=FEATURES)  # the unknown truth that every site's data follows


def initial():
    """The model that round 1 starts from."""
    return {"weights": np.zeros(FEATURES), "bias": np.zeros(1)}


def patients(site, count=400):
    """This site's data: its own mix of cases, the same at every call. Read real data from task.data["name"]."""
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


def write(name: str, here: Path, like: str = "") -> Path:
    """Write the folder `here/name`, from the example `like` if one is named, and return it.

    Raises `BadInput` for a bad name, an example that there is not, or a folder that is there.
    """
    try:
        names.job(name)
    except ValueError as wanted:
        raise BadInput(f"{name!r} is not a valid name for a job", why=f"wanted {wanted}") from wanted
    example = _example(like) if like else None
    folder = here / name
    try:
        folder.mkdir()
    except FileExistsError as problem:
        raise BadInput(f"{folder} already exists", fix="choose another name, or remove it") from problem
    if example is not None:
        _copy(example, folder, like)
    else:
        (folder / "job.yaml").write_text(JOB.format(name=name))
        (folder / "train.py").write_text(TRAIN)
    return folder


def examples() -> dict[str, Path]:
    """Return the folder of each example's job, by the example's name."""
    package = Path(convoy.__file__).parent
    for place in (package / "examples", package.parents[1] / "examples"):  # in a wheel, and in a clone
        found = {folder.name: folder for folder in sorted(place.iterdir())} if place.is_dir() else {}
        jobs = {
            name: next((it for it in (folder, folder / "job") if _is_job(it)), None) for name, folder in found.items()
        }
        if any(jobs.values()):
            return {name: job for name, job in jobs.items() if job is not None}
    return {}


def _meant(name: str, known: Iterable[str]) -> str:
    said = near(name, known)
    return said if said.endswith("?") else f"type one of them, such as --like {next(iter(known))}"


def _is_job(folder: Path) -> bool:
    return (folder / "job.yaml").is_file()


def _example(name: str) -> Path:
    known = examples()
    if name not in known:
        raise BadInput(
            f"there is no example {name!r}",
            why=f"the examples are {', '.join(known) or 'not installed'}",
            fix=_meant(name, known) if known else "leave --like out, or work in a clone of Convoy's repository",
        )
    return known[name]


def _copy(example: Path, folder: Path, like: str) -> None:
    """Copy an example's files; the job, and the commands of its README, have the name of the new folder."""
    for file in sorted(it for it in example.rglob("*") if it.is_file() and "__pycache__" not in it.parts):
        to = folder / file.relative_to(example)
        to.parent.mkdir(parents=True, exist_ok=True)
        copyfile(file, to)
    job = folder / "job.yaml"
    job.write_text(re.sub(r"(?m)^name: *[^\s#]+", f"name: {folder.name}", job.read_text()))
    readme = folder / "README.md"
    if readme.exists():
        told = re.sub(r"(?m)^!\[.*\n+", "", readme.read_text())  # its picture is not part of a job
        readme.write_text(re.sub(rf"examples/{re.escape(like)}(/job)?", folder.name, told))
