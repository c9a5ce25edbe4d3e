"""The main job on one machine: three hospitals, real processes, mTLS, real patients, a table and a plot.

It types what a person would type (each command is printed), in build/demo. `--seed` draws another split.
"""

from __future__ import annotations

import argparse
import json
import runpy
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from split import Split, split, write

HERE = Path(__file__).parent
SITES = ["hospital-1", "hospital-2", "hospital-3"]
ADMIN = "ada@university.example"
CONVOY = str(Path(sys.executable).with_name("convoy"))


def convoy(folder: Path, *words: str, quiet: bool = False) -> str:
    """Type a convoy command in a folder; return what it printed. Ends the demo if it failed."""
    print(f"\n$ convoy {' '.join(words)}", flush=True)
    done = subprocess.run(
        [CONVOY, *words], cwd=folder, check=False, text=True, stdout=subprocess.PIPE if quiet else None
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout or ""


def free_port(wanted: int) -> int:
    """Return a port if nobody listens on it here, else say so and return one that is free."""
    with socket.socket() as sock:
        try:
            sock.bind(("0.0.0.0", wanted))
        except OSError:
            sock.bind(("0.0.0.0", 0))
            print(f"port {wanted} is taken here: the demo uses {sock.getsockname()[1]} instead")
        return int(sock.getsockname()[1])


def provision(folder: Path, found: Split) -> None:
    """Make the kits and lay each hospital's patients into its own."""
    project = (HERE / "project.yml").read_text()
    for port in (8002, 8003):
        project = project.replace(str(port), str(free_port(port)))
    (folder / "project.yml").write_text(project)
    convoy(folder, "provision")
    for site in SITES:
        local = folder / "workspace" / "breast_cancer" / "prod_00" / site / "local"
        write(found, found.hospitals[site], local / "patients.csv")
        with (local / "node.yaml").open("a") as settings:
            settings.write("\ndata: {patients: patients.csv}\n")


def tell_split(found: Split, seed: int) -> None:
    """Print who sees whom."""
    print(f"Wisconsin breast cancer, split by seed {seed}; {len(found.held_out)} patients are held out from everybody.")
    for site, rows in found.hospitals.items():
        sick = int(found.y[rows].sum())
        print(f"  {site}: {len(rows):3d} patients, {sick:3d} malignant ({sick / len(rows):4.0%})")


def train_and_fetch(folder: Path) -> Path:
    """Run the federation, the job in it, and bring the results home; return their folder."""
    began = time.monotonic()
    convoy(folder, "up")
    try:
        convoy(folder, "job", "submit", str(HERE / "job"), "--watch")
        convoy(folder, "job", "fetch", "breast-cancer", "-o", "results", quiet=True)
        convoy(folder, "job", "show", "breast-cancer")
    finally:
        convoy(folder, "down")
    print(f"\nthe federation was up for {time.monotonic() - began:.1f} s")
    return folder / "results"


def compare(found: Split, federated: dict[str, np.ndarray], config: dict[str, float], rounds: int) -> None:
    """Print accuracy and AUC on the held-out patients: each hospital alone, federated, and all data pooled."""
    code = runpy.run_path(str(HERE / "job" / "train.py"))
    scaled = 2 * (found.x - code["LOW"]) / (code["HIGH"] - code["LOW"]) - 1
    x, y = scaled[found.held_out], found.y[found.held_out]

    def alone(rows: np.ndarray) -> dict[str, np.ndarray]:
        effort = config | {"local_epochs": int(config["local_epochs"] * rounds)}
        return code["fit"](code["initial"](), scaled[rows], found.y[rows], seed=0, **effort)

    models = [(f"{site} alone", alone(rows)) for site, rows in found.hospitals.items()]
    models.append(("federated", federated))
    models.append(("all data pooled", alone(np.concatenate(list(found.hospitals.values())))))
    print(f"\n{'trained on':<18} {'accuracy':>9} {'AUC':>7}   on the same {len(y)} held-out patients")
    for name, model in models:
        p = code["probability"](model, x)
        mark = "  <- no patient left a hospital" if name == "federated" else ""
        print(f"{name:<18} {((p > 0.5) == y).mean():9.1%} {roc_auc_score(y, p):7.3f}{mark}")


def plot(metrics: list[dict[str, float]], path: Path) -> None:
    """Draw the rounds' curve."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rounds = [row["round"] for row in metrics if "loss" in row]
    figure, left = plt.subplots(figsize=(7, 4), dpi=120, layout="constrained")
    left.plot(rounds, [row["accuracy"] for row in metrics if "loss" in row], "o-", color="#1f6feb", label="accuracy")
    left.plot(rounds, [row["auc"] for row in metrics if "loss" in row], "s-", color="#2da44e", label="AUC")
    left.set(xlabel="round", ylabel="accuracy, AUC", title="Three hospitals, one model: each round at all three")
    right = left.twinx()
    right.plot(rounds, [row["loss"] for row in metrics if "loss" in row], "^--", color="#cf222e", label="loss")
    right.set_ylabel("loss (cross-entropy)")
    left.set_xticks(rounds)
    left.grid(alpha=0.3)
    lines = left.get_lines() + right.get_lines()
    left.legend(lines, [str(line.get_label()) for line in lines], loc="center right")
    figure.savefig(path)


def main() -> None:
    """Run the demo."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=7, help="of the split (default: 7)")
    options.add_argument("--folder", type=Path, default=Path("build/demo"), help="where it works (default: build/demo)")
    chosen = options.parse_args()
    folder = chosen.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = split(SITES, chosen.seed)
    tell_split(found, chosen.seed)
    provision(folder, found)
    results = train_and_fetch(folder)
    metrics = [json.loads(line) for line in (results / "metrics.jsonl").read_text().splitlines()]
    spec = json.loads((results / "job.json").read_text())["spec"]
    from convoy.store.arrays import read_file

    compare(found, dict(read_file(results / "model.safetensors")), spec["config"], len(metrics) - 1)
    plot(metrics, folder / "rounds.png")
    print(f"\nmodel: {results / 'model.safetensors'}\nplot:  {folder / 'rounds.png'}")


if __name__ == "__main__":
    main()
