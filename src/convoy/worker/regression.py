"""A site's part of the workflows `logistic` and `linear`: gradient and Hessian of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.errors import BadInput
from convoy.worker.complete import Rows, Support, balanced, complete, enough, exact, extremes, opened, supported
from convoy.worker.replies import Reply
from convoy.worker.table import word

if TYPE_CHECKING:
    from convoy.worker.tasks import Task

Array = np.ndarray[Any, Any]


def regression(task: Task) -> Reply:
    """Return the loss of some coefficients over this site's rows, its gradient and its Hessian.

    The model: `middle` and `scale` float64 (columns,), by which columns are standardised, and `beta` float64 (p,): of
    the intercept, the columns, and the values of each categorical column but its first. The reply: `rows` and
    `smallest.count` int64 (1,), `loss` float64 (1,), `gradient` float64 (p,), `hessian` float64 (p, p). Raises
    `BadInput`, and `Refused` where a sum would be over too few rows.
    """
    given = task.settings
    table, rules = opened(task)
    exact(task, rules)
    columns, categories, logistic = given["columns"], given["categories"], given["family"] == "logistic"
    outcome, positive = given["outcome"], given["positive"]
    wanted = (columns, categories, [outcome]) if positive else ([*columns, outcome], categories)
    rows, low, high = extremes(complete(table, *wanted), len(wanted[0]))
    enough(rows, task, rules)
    width = len(columns)
    counted = width if logistic else width + 1  # a number as an outcome may be an indicator too
    support = Support(low[:counted], high[:counted], sum(map(len, categories.values())) + 2 * logistic)
    middle, scale, beta = (np.asarray(task.model[name]) for name in ("middle", "scale", "beta"))
    found, largest = Sums(len(beta)), 0.0
    first = np.cumsum([0, *map(len, categories.values())])[:-1]
    for block in complete(table, *wanted):
        y = _outcome(block, outcome, positive, logistic=logistic)
        numbers = block.numbers[:, :width]
        ends = np.stack([y == 0, y == 1], axis=1) if logistic else np.zeros((len(y), 0), bool)
        support.add(block.numbers[:, :counted], np.column_stack([block.levels, ends]))
        x = np.column_stack(
            [np.ones(len(y)), (numbers - middle) / scale, np.delete(block.levels, first, axis=1).astype(np.float64)]
        )
        largest = max(largest, found.add(x, y, beta, logistic=logistic))
    smallest = supported(support.smallest(), task, rules)
    balanced(found.weights, largest, task)
    return Reply({
        "rows": np.array([rows], np.int64),
        "smallest.count": smallest,
        "loss": np.array([found.loss]),
        "gradient": found.gradient,
        "hessian": found.hessian,
    })  # fmt: skip


class Sums:
    """Sums over rows, of the negative log-likelihood or of half the squared residuals."""

    def __init__(self, width: int) -> None:
        """Begin with no rows, for `width` coefficients."""
        self.loss = self.weights = 0.0
        self.gradient, self.hessian = np.zeros(width), np.zeros((width, width))

    def add(self, x: Array, y: Array, beta: Array, *, logistic: bool) -> float:
        """Add rows, float64 (rows, p) and (rows,); return the largest weight of one of them."""
        eta = x @ beta
        if logistic:
            tail = np.exp(-np.abs(eta))
            mean = np.where(eta >= 0, 1.0, tail) / (1.0 + tail)
            weight = tail / (1.0 + tail) ** 2
            self.loss += float((np.maximum(eta, 0.0) - y * eta + np.log1p(tail)).sum())
        else:
            mean, weight = eta, np.ones(len(y))
            self.loss += float(((y - eta) ** 2).sum() / 2)
        self.gradient += x.T @ (mean - y)
        self.hessian += (x * weight[:, None]).T @ x
        self.weights += float(weight.sum())
        return float(weight.max(initial=0.0))


def _outcome(block: Rows, name: str, positive: str, *, logistic: bool) -> Array:
    """Return the outcome of each row, float64 (rows,). Raises `BadInput` where it has to be 0 or 1 and is not."""
    if positive:
        wanted = word(positive)
        return np.array([text == wanted for text in block.texts[name]], np.float64)
    found: Array = block.numbers[:, -1]
    strange = (found != 0) & (found != 1)
    if logistic and strange.any():
        raise BadInput(
            f"the outcome {name!r} has a value other than 0 and 1",
            why=f"row {int(block.places[np.argmax(strange)])} of the table, the header not counted, has it",
            fix="name the value that counts as 1: `positive: yes`",
        )
    return found
