"""A site's part of analytics: it counts its own values, as a workflow requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.errors import BadInput
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task


def histogram(task: Task, values: Mapping[str, Any]) -> Reply:
    """Return the reply to a task of the workflow `histogram`: how many of this site's values fall into each bin.

    `values`: one-dimensional numbers by column. A value on an inner edge belongs to the bin above it, one on the last
    edge to the last bin, as in `numpy.histogram`; NaN is missing. Raises `BadInput` for a column that is not there.
    """
    import numpy as np

    columns, bins = task.settings["columns"], task.settings["bins"]
    counts = np.zeros((len(columns), bins), np.int64)
    outside, missing = np.zeros((len(columns), 2), np.int64), np.zeros(len(columns), np.int64)
    for place, (name, (low, high)) in enumerate(columns.items()):
        if name not in values:
            raise BadInput(
                f"this site has no column {name!r}",
                why=f"it has {', '.join(map(str, values)) or 'none at all'}",
                fix="give the values of every column that the job counts",
            )
        column = np.asarray(values[name], np.float64).reshape(-1)
        missing[place] = np.isnan(column).sum()
        outside[place] = (column < low).sum(), (column > high).sum()
        counts[place], _ = np.histogram(column[(column >= low) & (column <= high)], bins, (low, high))
    return Reply({"counts": counts, "outside": outside, "missing": missing}, weight=float(max(counts.sum(), 1)))
