"""`python -m bench.simulator`: the simulator's numbers, each beside its budget and the simulators of the peers.

Everything is measured on whole `convoy simulate` commands, by the lines that they print and the memory that they and
their children hold. Convoy's modules are compiled first, as pip does when it installs them. A visit is one task of one
site: its seconds are those from the first round's line to the last one's, divided by the visits between, so that no
start is in them.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import convoy
from bench import memory
from bench.peer_simulators import SIMULATORS, Simulator
from bench.rows import Row, show

MB = 1_000_000

JOB = "name: bench\nwith: {{rounds: {rounds}, min_sites: 1}}\ntrainer: train.py\nmodel: train.py:initial\n"

NOTHING = """
import numpy as np
import convoy

dice = np.random.default_rng()

def initial():
    return {"w": np.zeros(2_500, np.float32)}

@convoy.train
def train(task):
    shift = dice.random(dtype=np.float32)  # other numbers at each visit: equal ones are sent once only
    return convoy.Reply({name: array + shift for name, array in task.model.items()}, weight=1.0)
"""

STEPS = """
import numpy as np

ROWS = 60

def trained(path, number, w, b):
    held = np.load(path, mmap_mode="r")[ROWS * number : ROWS * (number + 1)]
    x, y = held[:, :-1].astype(np.float32) / 255, np.eye(10, dtype=np.float32)[held[:, -1]]
    for start in range(0, ROWS, 10):
        part = slice(start, start + 10)
        scores = x[part] @ w + b
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        slope = (shares - y[part]) / 10
        w = w - 0.1 * (x[part].T @ slope)
        b = b - 0.1 * slope.sum(axis=0)
    return w, b
"""

REGRESSION = (
    STEPS
    + """
import convoy

def initial():
    return {"w": np.zeros((784, 10), np.float32), "b": np.zeros(10, np.float32)}

@convoy.train
def train(task):
    number = int(task.site.removeprefix("site-")) - 1
    w, b = trained(task.data["rows"], number, task.model["w"], task.model["b"])
    return convoy.Reply({"w": w, "b": b}, weight=ROWS)
"""
)


@dataclass
class Ran:
    """A command that has ended: its seconds, when each round's line came after its start, and its peak of memory."""

    whole_s: float = 0.0
    rounds_s: list[float] = field(default_factory=list)
    peak: int = 0

    def visit_s(self, sites: int) -> float:
        """Return the seconds of a visit after the first round."""
        return (self.rounds_s[-1] - self.rounds_s[0]) / sites / (len(self.rounds_s) - 1)


@dataclass(frozen=True)
class Bench:
    """Measures one after the other, each median of `times`."""

    folder: Path
    times: int = 3

    def job(self, trainer: str, rounds: int) -> Path:
        """Write a job."""
        made = Path(tempfile.mkdtemp(dir=self.folder))
        (made / "job.yaml").write_text(JOB.format(rounds=rounds))
        (made / "train.py").write_text(trainer)
        return made

    def run(self, job: Path, sites: int, *more: str, watch: bool = False) -> Ran:
        """Run `convoy simulate` to its end; `watch` its memory only where that is wanted, since it takes time too."""
        results = job / "results"
        command = [str(Path(sys.executable).with_name("convoy")), "simulate", str(job), "--sites", str(sites)]
        began, ran = time.perf_counter(), Ran()
        with subprocess.Popen([*command, "-o", str(results), *more], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            watched = memory.watched(lambda: memory.family(process.pid), 0.05, memory.resident)
            with watched if watch else nullcontext(memory.Peak()) as peak:
                for line in process.stdout:
                    if line.startswith("round "):
                        ran.rounds_s.append(time.perf_counter() - began)
        ran.whole_s, ran.peak = time.perf_counter() - began, peak.value
        assert process.returncode == 0, f"the simulation failed: {' '.join(command)}"
        shutil.rmtree(results)
        return ran

    def median(self, measure: Callable[[], float]) -> float:
        """Return the median of `times` measures."""
        return statistics.median(measure() for _ in range(self.times))

    def visits(self, peers: Mapping[Simulator, float]) -> list[Row]:
        """A visit that trains nothing, in the command's own process and in isolated worker processes."""
        job, sites = self.job(NOTHING, rounds=41), 50
        rows = []
        for place, budget, workers in (("in process", 0.15, 0), ("2 isolated workers", 0.5, 2)):
            more = ("--workers", str(workers))
            took = self.median(lambda more=more: self.run(job, sites, *more).visit_s(sites)) * 1e3
            alike = {peer: visit_s for peer, visit_s in peers.items() if peer.processes == (workers > 0)}
            theirs = {peer.column: visit_s * 1e3 for peer, visit_s in alike.items()}
            note = "; ".join(f"{peer.name}: {peer.note}" for peer in alike)
            rows.append(Row(f"simulator, a visit, 10 kB, {place}", took, budget, "ms", theirs=theirs, note=note))
        return rows

    def first_round(self) -> Row:
        """From typing the command to the line of the first round, with isolated workers."""
        job = self.job(NOTHING, rounds=1)
        took = self.median(lambda: self.run(job, 10).rounds_s[0])
        return Row("simulator, command to the end of round 1, 10 sites", took, 1.0, "s")

    def regression(self) -> Row:
        """Logistic regression on as many rows as MNIST has, 60 at each of 1,000 sites; the whole command."""
        dice, job, sites, rounds = np.random.default_rng(1), self.job(REGRESSION, rounds=10), 1_000, 10
        images = dice.integers(0, 256, (60 * sites, 784), np.uint8)
        scores = images @ dice.standard_normal((784, 10), np.float32)
        labels = (scores - scores.mean(axis=0)).argmax(axis=1).astype(np.uint8)
        rows = self.folder / "rows.npy"
        np.save(rows, np.column_stack([images, labels]))
        low = bare_s(rows, sites) * rounds / 2
        took = self.median(lambda: self.run(job, sites, "--data", f"rows={rows}").whole_s)
        what = f"simulator, {sites:,} sites x {rounds} rounds of 784x10 logistic regression"
        return Row(what, took, 10, "s", low, note="the floor: the same training in a bare loop, halved for 2 cores")

    def memories(self) -> list[Row]:
        """The peak of memory of the command and its workers, at many sites and over many rounds."""
        many = self.run(self.job(NOTHING, rounds=2), 10_000, watch=True).peak
        few, long = (self.run(self.job(NOTHING, rounds=rounds), 20, watch=True).peak for rounds in (50, 500))
        note = f"{few / MB:.0f} MB and {long / MB:.0f} MB"
        return [
            Row("simulator, peak memory, 10,000 sites x 2 rounds", many / MB, 1000, "MB"),
            Row("simulator, peak memory of 500 rounds to that of 50", long / few, 1.1, "x", note=note),
        ]


def bare_s(rows: Path, sites: int) -> float:
    """Return the seconds that the training of a round takes in a loop, one site after the other."""
    made: dict[str, Any] = {}
    exec(STEPS, made)
    w, b = np.zeros((784, 10), np.float32), np.zeros(10, np.float32)
    began = time.perf_counter()
    for number in range(sites):
        made["trained"](rows, number, w, b)
    return time.perf_counter() - began


def measure_peers(times: int) -> dict[Simulator, float]:
    """Return the seconds of a visit at each peer; one that fails is said and has none."""
    found: dict[Simulator, float] = {}
    for peer in SIMULATORS:
        try:
            found[peer] = statistics.median(peer.visit_s() for _ in range(times))
        except (RuntimeError, subprocess.SubprocessError) as problem:
            print(f"{peer.requirement} failed: {problem}", file=sys.stderr)
        print(f"{peer.requirement} done, load {os.getloadavg()[0]:.1f}: {peer.note}", file=sys.stderr)
    return found


def measure(folder: Path, times: int, *, peers: bool) -> list[Row]:
    """Return all rows of the simulator."""
    compileall.compile_dir(Path(convoy.__file__).parent, quiet=1)
    bench = Bench(folder, times)
    found = measure_peers(min(times, 3)) if peers else {}
    rows = bench.visits(found)
    return [*rows, bench.first_round(), bench.regression(), *bench.memories()]


def main() -> None:
    """Measure, and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--times", type=int, default=5)
    options.add_argument("--no-peers", action="store_true", help="leave the simulators of the peers out")
    chosen = options.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="convoy-bench-") as folder:
        show(measure(Path(folder), chosen.times, peers=not chosen.no_peers), {}, "what, on 2 cores")


if __name__ == "__main__":
    main()
