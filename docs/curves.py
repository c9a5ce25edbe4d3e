"""Simulate one job with every training workflow, and draw docs/reference/workflows/NAME.png: `make curves`."""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any, Final

import matplotlib as mpl
import yaml

import convoy
from convoy.flows.catalog import BUILT_IN

mpl.use("Agg")
from matplotlib import pyplot as plt

JOB: Final = Path(__file__).parent / "curves"
PICTURES: Final = Path(__file__).parent / "reference" / "workflows"
WAYS: Final[dict[str, dict[str, Any]]] = {  # the parameters of each
    "fedavg": {},
    "fedavgm": {"momentum": 0.5},
    "fedadam": {"server_lr": 0.03},
    "fedyogi": {"server_lr": 0.03},
    "fedadagrad": {"server_lr": 0.1},
    "fedprox": {"mu": 0.1},
    "scaffold": {},
    "feddyn": {"alpha": 0.01},
    "fednova": {},
    "diloco": {"server_lr": 0.7, "momentum": 0.5, "fragments": 2},
    "fedbuff": {"buffer": 5},
    "fedasync": {},
    "cyclic": {},
    "xgboost_histogram": {"features": 64, "objective": "multi:softprob", "classes": 10, "max_depth": 3},
    "xgboost_bagging": {"features": 64, "objective": "multi:softprob", "classes": 10, "max_depth": 3},
    "random_forest": {"features": 64, "classes": 10, "trees_per_site": 5},
}


def accuracy(name: str) -> list[float]:
    """Return the accuracy after each round of the job with this workflow."""
    with TemporaryDirectory() as place:
        folder = copytree(JOB, Path(place) / "job")
        job = yaml.safe_load((folder / "job.yaml").read_text())
        trainer = name if f"def {name}(" in (folder / "train.py").read_text() else "plain"
        job |= {"workflow": name, "with": job["with"] | WAYS[name], "trainer": f"train.py:{trainer}"}
        if "features" in WAYS[name]:  # trees begin with no model
            del job["model"]
        (folder / "job.yaml").write_text(yaml.safe_dump(job))
        done = convoy.simulate(folder, progress=False, workers=0)
        return [made["metrics"]["accuracy"] for made in done.history if "accuracy" in made["metrics"]]


def draw(name: str, curve: list[float], usual: list[float]) -> None:
    """Write the picture of one workflow; beside it, in grey, that of FedAvg."""
    figure, axis = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    if name != "fedavg":
        axis.plot(range(1, len(usual) + 1), usual, color="0.7", label="fedavg")
    axis.plot(range(1, len(curve) + 1), curve, label=name)
    axis.set(xlabel="round", ylabel="accuracy", ylim=(0, 1))
    axis.legend(frameon=False, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / f"{name}.png", dpi=100)
    plt.close(figure)


def main(names: list[str]) -> None:
    """Draw the workflows with these names, or all of them."""
    usual = accuracy("fedavg")
    for name in names or [it for it in BUILT_IN if it in WAYS]:
        curve = accuracy(name)
        sys.stdout.write(f"{name}: {curve[4]:.3f} after 5 rounds, {curve[-1]:.3f} after {len(curve)}\n")
        draw(name, curve, usual)


if __name__ == "__main__":
    main(sys.argv[1:])
