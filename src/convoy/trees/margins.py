"""The margins of a site's rows under the job's model, kept from round to round: only new trees are evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.model import trees
from convoy.worker.tasks import Task

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


def margins_of(task: Task, x: Array, outputs: int) -> Array:
    """Return the margins of rows float32 (rows, features) under the task's model: float64 (rows, outputs).

    Those of an earlier round are in the task's state; their bits are those of a new start. Raises `Refused` for a model
    whose trees are not usable.
    """
    grown, *_ = trees.of_model(task.model)
    begin, past = np.zeros((len(x), outputs)), 0
    if "margin" in task.state and task.state["margin"].shape == begin.shape:
        begin, past = task.state["margin"], int(task.state["trees"][0])
    return trees.margins(grown.part(past), x, begin)


def state_of(task: Task, margin: Array) -> dict[str, Array]:
    """Return what a site keeps for its next task: the margins, and how many trees they are of."""
    return {"margin": margin, "trees": np.array([len(task.model["sizes"])], np.int64)}
