"""What live metrics cost: rounds of 32 sites that report 1,000 values a second together, beside rounds without."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from bench.rows import Row
from tests.federation import Federation, federation

SITES, VALUES, ROUNDS = 32, 1000, 8  # values a second, of all sites together

TRAIN = """
import time

import numpy as np
import convoy


def initial():
    return {"w": np.zeros(2500, np.float32)}


@convoy.train
def train(task):
    begun = time.monotonic()
    for step in range(task.config["steps"]):
        if task.config["live"]:
            convoy.metrics({"loss": 1 / (step + 1)}, step=1000 * task.round + step, phase="train")
        time.sleep(max(begun + (step + 1) / task.config["steps"] - time.monotonic(), 0))  # all of it takes a second
    return convoy.Reply({"w": task.model["w"] + 1})
"""


def write(folder: Path, *, live: bool) -> Path:
    """Write a job whose tasks take a second, in which each site reports its part of the values."""
    folder.mkdir(parents=True)
    (folder / "train.py").write_text(TRAIN)
    (folder / "job.yaml").write_text(
        f"name: bench\nwith: {{rounds: {ROUNDS}, min_sites: {SITES}}}\ntrainer: train.py\nmodel: train.py:initial\n"
        f"patience: 2m\nconfig: {{steps: {VALUES // SITES}, live: {'true' if live else 'false'}}}\n"
    )
    return folder


def measure(folder: Path, times: int, rounds_s: Callable[[Federation, Path], float]) -> Row:
    """Run both jobs in turn on one federation; the row is the ratio of their median rounds."""
    with federation(folder / "fed", sites=SITES) as made:
        jobs = {live: write(folder / f"live-{live}", live=live) for live in (True, False)}
        took = [{live: rounds_s(made, job) for live, job in jobs.items()} for _ in range(times)]
    ratio = statistics.median(one[True] / one[False] for one in took)
    quiet = statistics.median(one[False] for one in took)
    what = f"round of {SITES} sites that report {VALUES} values a second together, beside one without"
    return Row(what, ratio, 1.05, "times", note=f"without: {quiet:.2f} s, of which a task takes 1 s")
