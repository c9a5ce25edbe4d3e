"""A site's part of boosting by histograms: it counts values, and sums gradients for the nodes of growing trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from convoy.errors import BadInput
from convoy.model import cuts, splits, trees
from convoy.trees.margins import margins_of, state_of
from convoy.trees.predict import metrics_of
from convoy.trees.rows import classes_of, features_of, labels_of
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task


def histograms(task: Task, x: Any, y: Any) -> Reply:
    """Return the reply to a "train" task of the workflow `xgboost_histogram`.

    `x`: numbers (rows, features), NaN where a value is missing; `y`: a label for each row. The same rows must be given
    for every task of a job. The margins of the rows stay here as the task's state. Raises `BadInput` for rows that do
    not fit the job.
    """
    told = task.settings
    if told.get("step") not in ("count", "sum"):
        raise BadInput("this task asks for no histograms", fix="set `workflow: xgboost_histogram` in job.yaml")
    kind, outputs = told["objective"], told["outputs"]
    rows = features_of(x, told["features"])
    labels = labels_of(y, len(rows), kind, classes_of(kind, outputs))
    if told["step"] == "count":
        every = np.column_stack([rows, labels])
        places = task.model["column"], task.model["low"]
        found = cuts.counts(every, *places, shift=told["shift"], fan=told["fan"])
        return Reply({"counts": found}, weight=float(len(rows)))
    return _sums(task, rows, labels, outputs)


def _sums(task: Task, x: Any, y: Any, outputs: int) -> Reply:
    """Return the sums of a level's open nodes; at the first level also the metrics, and the margins as the state."""
    told, model = task.settings, task.model
    kind = told["objective"]
    margin, growing = margins_of(task, x, outputs), trees.of(model, "new/")
    trees.check(growing, kind=kind, features=x.shape[1], outputs=outputs)
    slots = model["slot"][trees.ends(growing, x)].astype(np.int64)
    g, h = splits.gradients(kind, margin, y)
    sums = [splits.whole(g, told["exponent"]), splits.whole(h, 0)]
    points = cuts.unpadded(model["cuts"], model["cut_counts"])
    assert task.asked.reply is not None  # noqa: S101 - the workflow gives the shape
    shape = tuple(int(length or 0) for length in task.asked.reply[0].shape)
    found = {"sums": splits.histogram(x, points, slots, sums, shape)}
    if told["level"]:
        return Reply(found, weight=float(len(x)))
    return Reply(found, weight=float(len(x)), metrics=metrics_of(kind, margin, y), state=state_of(task, margin))
