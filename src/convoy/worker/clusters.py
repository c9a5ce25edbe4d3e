"""A site's part of the workflow `kmeans`: the sums of the rows nearest to each centre."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.privacy import cells
from convoy.privacy.cells import SUPPRESSED
from convoy.worker.complete import complete, enough, opened
from convoy.worker.replies import Reply

if TYPE_CHECKING:
    from convoy.worker.tasks import Task

Array = np.ndarray[Any, Any]


def kmeans(task: Task) -> Reply:
    """Return how many rows are nearest to each centre, their sums, and their squared distances from it.

    The model: `middle` and `scale` float64 (columns,), by which rows are standardised, and `centres` float64
    (k, columns) in that scale. The reply: `clusters.count` int64 (k,), -1 where a cluster is suppressed;
    `clusters.sum` float64 (k, columns), `clusters.squares` float64 (k,). Raises `BadInput` and `Refused`.
    """
    table, rules = opened(task)
    middle, scale, centres = (np.asarray(task.model[name]) for name in ("middle", "scale", "centres"))
    count = np.zeros(len(centres), np.int64)
    sums, squares = np.zeros_like(centres), np.zeros(len(centres))
    for rows in complete(table, task.settings["columns"], {}):
        values = (rows.numbers - middle) / scale
        apart = np.stack([((values - centre) ** 2).sum(1) for centre in centres], axis=1)
        nearest = apart.argmin(1)  # the first of those that are equally near
        count += np.bincount(nearest, minlength=len(centres))
        np.add.at(sums, nearest, values)
        np.add.at(squares, nearest, apart[np.arange(len(values)), nearest])
    enough(int(count.sum()), task, rules)
    shown = cells.released(count, rules.minimum_count)
    return Reply({
        "clusters.count": cells.rounded_counts(np.where(shown, count, SUPPRESSED), rules.digits, rules.minimum_count),
        "clusters.sum": cells.rounded(np.where(shown[:, None], sums, 0.0), rules.digits),
        "clusters.squares": cells.rounded(np.where(shown, squares, 0.0), rules.digits),
    })  # fmt: skip
