"""`python -m bench.folds`: how fast the folds read updates, beside numpy on the same arrays in memory.

8 updates of 10 MB of float32. The floor of the mean is `numpy.mean`, that of the median `numpy.median`, that of Krum
numpy's norm of the difference of each two updates. The time of `add`, which measures distances, is not in it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np

from bench.rows import Row, show
from convoy.model.arrays import Model
from convoy.model.robust import FOLDS, fold_of
from convoy.model.update import Update

MB = 1_000_000
COUNT, SIZE = 8, 10 * MB


def measure(times: int = 5) -> list[Row]:
    """Return the milliseconds of each fold, with its MB/s as a note."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(SIZE // 4, dtype=np.float32) for _ in range(COUNT)]
    stack = np.stack(arrays)
    floors: dict[str, Callable[[], object]] = {
        "mean": lambda: stack.mean(axis=0),
        "median": lambda: np.median(stack, axis=0),
        "krum": lambda: [np.linalg.norm(one - other) for one, other in combinations(arrays, 2)],
    }
    rows = []
    for name in FOLDS:
        took = statistics.median(_fold_s(name, arrays) for _ in range(times))
        low = statistics.median(_timed(floors[name]) for _ in range(times)) if name in floors else None
        note = f"{_speed(took)} MB/s" + ("" if low is None else f", numpy {_speed(low)} MB/s")
        what = f"fold of 8 updates of 10 MB, {name}"
        rows.append(Row(what, took * 1e3, float("inf"), "ms", None if low is None else low * 1e3, note=note))
    return rows


def _fold_s(name: str, arrays: list[np.ndarray]) -> float:
    fold = fold_of(name, {"w": np.zeros_like(arrays[0])}, attackers=1 if name == "trimmed" else None)
    for place, array in enumerate(arrays):
        fold.add(Update(f"site-{place}", Model({"w": array})))
    return _timed(fold.result)


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _speed(took_s: float) -> str:
    return f"{COUNT * SIZE / MB / took_s:.0f}"


if __name__ == "__main__":
    show(measure(), {}, "what, in one process")
