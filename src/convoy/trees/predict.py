"""What a model of trees says of rows, and how well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.model import splits, trees
from convoy.trees.rows import classes_of, features_of, labels_of
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


def predict(model: Mapping[str, Any], x: Any) -> Array:
    """Return what a model of trees predicts for numbers (rows, features), float64.

    (rows,) numbers for regression; (rows,) probabilities of label 1 for `binary:logistic`; (rows, classes)
    probabilities for `multi:softprob` and for a forest of classes. Raises `Refused` for a model that has no usable
    trees, and `BadInput` for rows of another number of features.
    """
    found, kind, features, outputs = trees.of_model(model)
    rows = features_of(x, features)
    if kind in trees.MEANS:
        said = trees.means(found, rows)
    else:
        said = splits.probabilities(kind, trees.margins(found, rows, np.zeros((len(rows), outputs))))
    return said if kind in ("multi:softprob", "vote") else said[:, 0]


def evaluate(task: Task, x: Any, y: Any) -> Reply:
    """Return the reply to an "evaluate" task of a workflow of trees: metrics alone, weighted by the number of rows.

    They are `rmse` for regression, else `accuracy` and `loss` (the logarithmic loss). Raises what `predict` raises, and
    `BadInput` for labels that do not fit the job.
    """
    _, kind, _, outputs = trees.of_model(task.model)
    said = predict(task.model, x)
    labels = labels_of(y, len(said), kind, classes_of(kind, outputs))
    return Reply(weight=float(len(labels)), metrics=_measured(kind, said, labels))


def metrics_of(kind: str, margin: Array, y: Array) -> dict[str, float]:
    """Return the metrics of margins float64 (rows, outputs), for the kinds whose output is a sum."""
    said = splits.probabilities(kind, margin)
    return _measured(kind, said if kind == "multi:softprob" else said[:, 0], y)


def _measured(kind: str, said: Array, y: Array) -> dict[str, float]:
    if kind in ("reg:squarederror", "mean"):
        return {"rmse": float(np.sqrt(np.mean((said - y) ** 2)))}
    shares = np.column_stack([1 - said, said]) if kind == "binary:logistic" else said
    right = shares[np.arange(len(y)), y.astype(np.int64)]
    loss = -np.log(np.maximum(right, 1e-15)).mean()  # scikit-learn's and XGBoost's bound has the same purpose
    return {"loss": float(loss), "accuracy": float((shares.argmax(axis=1) == y).mean())}
