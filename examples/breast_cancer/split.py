"""Wisconsin breast-cancer data split over three hospitals of unequal size and different case mix, by a seed."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

MALIGNANT = (0.10, 0.75, 0.15)  # the share of all malignant cases that each hospital sees
BENIGN = (0.65, 0.10, 0.25)  # and of all benign ones: a screening clinic, a cancer centre, a district hospital
HELD_OUT = 171  # patients that no hospital trains on


@dataclass(frozen=True)
class Split:
    """Row numbers of each hospital's patients and of the held-out ones."""

    names: list[str]
    x: np.ndarray
    y: np.ndarray
    hospitals: dict[str, np.ndarray]
    held_out: np.ndarray


def split(sites: list[str], seed: int) -> Split:
    """Return the split; the larger a tumour, the further down the list of its kind, so hospitals see other cases."""
    data = load_breast_cancer()
    x, y = data.data, (data.target == 0).astype(float)
    dice = np.random.default_rng(seed)
    order = dice.permutation(len(y))
    held_out, rest = order[:HELD_OUT], order[HELD_OUT:]
    parts: dict[str, list[np.ndarray]] = {site: [] for site in sites}
    for label, shares in ((1.0, MALIGNANT), (0.0, BENIGN)):
        rows = rest[y[rest] == label]
        rows = rows[np.argsort(x[rows, 0] + dice.normal(0, 0.5, len(rows)))]
        ends = [round(share * len(rows)) for share in np.cumsum(shares)]
        for site, part in zip(sites, np.split(rows, ends[:-1]), strict=True):
            parts[site].append(part)
    names = [*map(str, data.feature_names), "malignant"]
    return Split(names, x, y, {site: np.concatenate(part) for site, part in parts.items()}, held_out)


def write(found: Split, rows: np.ndarray, path: Path) -> None:
    """Write patients as CSV: 30 measurements and the label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(found.names)
        table.writerows([*map(repr, map(float, found.x[row])), int(found.y[row])] for row in rows)
