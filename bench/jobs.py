"""The benchmark's job: trainers that answer at once with distinct random updates."""

from __future__ import annotations

from pathlib import Path

TRAIN = """
import os
import time

import numpy as np
import convoy

def initial():
    return {f"layer{i}": np.zeros(ITEMS // LAYERS, "KIND") for i in range(LAYERS)}

made = {}

@convoy.train
def train(task):
    mark = task.config.get("mark")
    if mark and not os.path.exists(mark):
        with open(mark, "w") as file:
            file.write(repr(time.time()))
    if not made:
        dice = np.random.default_rng(sum(map(ord, task.site)))
        made.update({k: (dice.random(len(v), dtype=np.float32) * 99).astype(v.dtype) for k, v in task.model.items()})
    for array in made.values():
        array[:1] = task.round  # another body each round, at no cost
    return convoy.Reply(made, weight=1.0)
"""


def write(folder: Path, size: int, *, rounds: int, sites: int, mark: Path | None = None, kind: str = "float32") -> Path:
    """Write a job whose model has `size` bytes of one dtype in 4 MB layers; `mark` gets the first task's time."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = max(1, size // 4_000_000)
    (folder / "job.yaml").write_text(
        f"name: bench\nwith: {{rounds: {rounds}, min_sites: {sites}}}\n"
        "trainer: train.py\nmodel: train.py:initial\npatience: 2m\n" + (f"config: {{mark: {mark}}}\n" if mark else "")
    )
    items = f"{size} // np.dtype('KIND').itemsize"
    text = TRAIN.replace("ITEMS", items).replace("LAYERS", str(layers)).replace("KIND", kind)
    (folder / "train.py").write_text(text)
    return folder
