"""Simulate a job with every built-in workflow, and draw docs/reference/workflows/NAME.png: `make curves`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import copyfile, copytree
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import yaml

import convoy
from convoy.cli import heatmaps, statistics
from convoy.cli.output import Screen
from convoy.flows.catalog import BUILT_IN
from convoy.sim.simulated import Simulated
from convoy.store import report

mpl.use("Agg")
from matplotlib import pyplot as plt

DIGITS: Final = Path(__file__).parent / "curves" / "digits"
SCANNERS: Final = Path(__file__).parent / "curves" / "scanners"
EXAMPLES: Final = Path(__file__).parents[1] / "examples"
PICTURES: Final = Path(__file__).parent / "reference" / "workflows"
TREES: Final = {"features": 64, "classes": 10}
BOOSTED: Final = TREES | {"objective": "multi:softprob", "max_depth": 3}
SURVIVAL: Final = {"table": "patients", "time": "months", "event": "died", "until": 24, "steps": 8}
PATIENTS: Final = {"table": "patients", "columns": ["age", "pressure", "glucose"]}


class Run(NamedTuple):
    """A job, what its workflow is given, and its picture: a metric by round, or one that Convoy draws itself."""

    job: Path
    given: Mapping[str, Any] = MappingProxyType({})
    picture: str = ""  # the beginning of the file's name, of one that Convoy draws
    beside: str = ""  # a workflow whose curve is drawn beside it, in grey


def digits(**given: Any) -> Run:
    """Return a run of the digits' job, drawn beside FedAvg."""
    return Run(DIGITS, given, beside="fedavg")


RUNS: Final[dict[str, Run]] = {
    "fedavg": Run(DIGITS),
    "fedavgm": digits(momentum=0.5),
    "fedadam": digits(server_lr=0.03),
    "fedyogi": digits(server_lr=0.03),
    "fedadagrad": digits(server_lr=0.1),
    "fedprox": digits(mu=0.1),
    "scaffold": digits(),
    "feddyn": digits(alpha=0.01),
    "fednova": digits(),
    "fedbn": Run(SCANNERS, beside="fedavg"),
    "ditto": digits(lam=0.1),
    "diloco": digits(server_lr=0.7, momentum=0.5, fragments=2),
    "fedex_lora": Run(EXAMPLES / "lora", {"rounds": 8}, beside="fedavg"),
    "fedbuff": digits(buffer=5),
    "fedasync": digits(),
    "cyclic": digits(),
    "swarm": digits(),
    "cross_site": Run(DIGITS, picture="heatmap-accuracy"),
    "statistics": Run(EXAMPLES / "statistics" / "job", picture="histogram-age"),
    "xgboost_histogram": digits(**BOOSTED),
    "xgboost_bagging": digits(**BOOSTED),
    "random_forest": digits(**TREES, trees_per_site=5),
    "kmeans": Run(EXAMPLES / "kmeans" / "job", picture="lines"),
    "pca": Run(EXAMPLES / "statistics" / "job", {**PATIENTS, "standardise": True}, "bars"),
    "logistic": Run(
        EXAMPLES / "statistics" / "job",
        {"table": "patients", "outcome": "sex", "positive": "m", "columns": ["age", "pressure", "glucose"]},
        "intervals",
    ),
    "linear": Run(
        EXAMPLES / "statistics" / "job",
        {"table": "patients", "outcome": "glucose", "columns": ["age", "pressure"], "categories": {"sex": ["f", "m"]}},
        "intervals",
    ),
    "kaplan_meier": Run(EXAMPLES / "survival" / "job", picture="lines"),
    "cox": Run(
        EXAMPLES / "survival" / "job",
        {**SURVIVAL, "columns": ["age"], "categories": {"arm": ["placebo", "drug"]}},
        "intervals",
    ),
}


def job(name: str, run: Run, folder: Path) -> dict[str, Any]:
    """Return what the job.yaml of a folder says, with another workflow."""
    found: dict[str, Any] = yaml.safe_load((folder / "job.yaml").read_text())
    if run.picture and name != found["workflow"]:  # what its own workflow is given is for that
        found["with"] = {}
    if run.job == DIGITS:
        trainer = name if f"def {name}(" in (folder / "train.py").read_text() else "plain"
        found["trainer"] = f"train.py:{trainer}"
    if "features" in run.given:  # trees begin with no model
        del found["model"]
    return found | {"workflow": name, "with": found["with"] | dict(run.given)}


def done(name: str, run: Run, place: Path) -> Simulated:
    """Simulate a run's job with a workflow, in a folder."""
    folder = copytree(run.job, place / "job")
    (folder / "job.yaml").write_text(yaml.safe_dump(job(name, run, folder)))
    sites = None if (folder / "simulate.yaml").exists() else 3
    return convoy.simulate(folder, sites=sites, progress=False, workers=0, results=place / "results")


def accuracy(name: str, run: Run) -> list[float]:
    """Return the accuracy after each round."""
    with TemporaryDirectory() as place:
        rounds = [made["metrics"] for made in done(name, run, Path(place)).history]
    return [metrics["accuracy"] for metrics in rounds if "accuracy" in metrics]


def drawn(name: str, run: Run) -> None:
    """Copy the picture that Convoy draws of a run."""
    with TemporaryDirectory() as place:
        made = done(name, run, Path(place))
        if (made.folder / report.STATISTICS).exists():
            statistics.draw(Screen(), made.folder)
        heatmaps.draw(Screen(), made.folder, made.history[-1]["metrics"])
        copyfile(next(iter(sorted(made.folder.glob(f"{run.picture}*.png")))), PICTURES / f"{name}.png")


def draw(name: str, curve: list[float], beside: str, usual: list[float]) -> None:
    """Write the picture of one workflow; beside it, in grey, that of another."""
    figure, axis = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    if beside:
        axis.plot(range(1, len(usual) + 1), usual, color="0.7", label=beside)
    axis.plot(range(1, len(curve) + 1), curve, label=name)
    axis.set(xlabel="round", ylabel="accuracy", ylim=(0, 1))
    axis.legend(frameon=False, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / f"{name}.png", dpi=100)
    plt.close(figure)


def main(names: list[str]) -> None:
    """Draw the workflows with these names, or all of them."""
    usual: dict[tuple[str, Path], list[float]] = {}
    for name in names or BUILT_IN:
        run = RUNS[name]
        if run.picture:
            drawn(name, run)
            continue
        other = (run.beside, run.job)
        if run.beside and other not in usual:
            usual[other] = accuracy(run.beside, Run(run.job, run.given if run.job != DIGITS else {}))
        curve = accuracy(name, run)
        sys.stdout.write(f"{name}: {curve[0]:.3f} after 1 round, {curve[-1]:.3f} after {len(curve)}\n")
        draw(name, curve, run.beside, usual.get(other, []))


if __name__ == "__main__":
    main(sys.argv[1:])
