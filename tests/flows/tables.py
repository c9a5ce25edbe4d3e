"""Tables of sites for tests of fits: CSV files, and real data of scikit-learn."""

import csv
import json

import numpy as np

from convoy import testing
from convoy.worker.built_in import KINDS


def write(path, columns):
    """Write columns by name as a CSV file; return it as the data of a site."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(columns)
        rows = zip(*(np.asarray(it).tolist() for it in columns.values()), strict=True)
        out.writerows([["" if it != it else repr(it) if isinstance(it, float) else it for it in row] for row in rows])
    return {"patients": str(path)}


def divided(folder, columns, cuts):
    """Return sites with the rows between these places; `cuts`: where one site ends."""
    size = len(next(iter(columns.values())))
    found = {}
    for place, (low, high) in enumerate(zip([0, *cuts], [*cuts, size], strict=True)):
        part = {name: np.asarray(it)[low:high] for name, it in columns.items()}
        found[f"s{place}"] = write(folder / f"s{place}-{low}-{high}.csv", part)
    return found


def fitted(workflow, sites, **given):
    """Return the document and the result of a run in memory."""
    result = testing.run(workflow, KINDS, sites=sites, table="patients", **given)
    return json.loads(result.model["statistics.json"].tobytes()), result


def lung(count=1200, seed=11):
    """Return patients made with a seed: the hazard is 0.05 exp(0.7 x - 0.5 treated), the censoring is uniform.

    Times are whole months, so that the intervals of a grid of months are exact.
    """
    dice = np.random.default_rng(seed)
    x, treated = dice.normal(0, 1, count), dice.random(count) < 0.5
    arm = np.where(treated, "drug", "placebo")
    death = dice.exponential(1 / (0.05 * np.exp(0.7 * x - 0.5 * treated)))
    leaves = dice.uniform(5, 60, count)
    time = np.ceil(np.minimum(death, leaves))
    return {"time": time, "event": (death <= leaves).astype(float), "x": x, "arm": arm}
