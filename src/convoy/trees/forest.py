"""The trees of a random forest that scikit-learn has grown, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.errors import BadInput
from convoy.model import trees
from convoy.model.trees import Trees
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

MOST = np.finfo(np.float32).max


def forest(task: Task, fitted: Any, *, weight: float = 1.0, metrics: Any = None) -> Reply:
    """Return the reply to a "train" task of the workflow `random_forest`: the trees of a fitted forest.

    `fitted`: a `RandomForestClassifier`, `RandomForestRegressor`, or one of extra trees, of scikit-learn, with
    `n_estimators=task.settings["trees"]` and `random_state=task.seed`; `weight` is that of its metrics. Classes that
    this site does not have get shares of 0. Raises `BadInput` for a forest that does not fit the job, and `Refused` for
    trees that the server would refuse, such as those of more than 64 levels.
    """
    told = task.settings
    features, classes, count = (told.get(name) for name in ("features", "classes", "trees"))
    if features is None or classes is None or count is None:
        raise BadInput("this task asks for no random forest", fix="set `workflow: random_forest` in job.yaml")
    grown = getattr(fitted, "estimators_", None)
    if not grown or not hasattr(grown[0], "tree_"):
        raise BadInput(
            f"{type(fitted).__name__} has no trees",
            why="it is not fitted, or no forest of scikit-learn",
            fix="call fit() first, on a RandomForestClassifier or RandomForestRegressor",
        )
    if fitted.n_features_in_ != features:
        raise BadInput(
            f"the forest of this site has {fitted.n_features_in_} features",
            why=f"the job says `features: {features}`",
            fix="give the same columns in the same order at every site",
        )
    if hasattr(fitted, "classes_") != bool(classes) or fitted.n_outputs_ != 1:
        what = f"{classes} classes" if classes else "numbers"
        raise BadInput(f"{type(fitted).__name__} does not fit the job", why=f"the job learns {what}, one for each row")
    if len(grown) > count:
        raise BadInput(f"the forest has {len(grown)} trees", fix=f"give n_estimators=task.settings['trees'], {count}")
    labels = _labels(fitted.classes_, classes) if classes else None
    united = trees.union([tree_of(one.tree_, labels, classes) for one in grown], classes or 1)
    trees.check(united, kind="vote" if classes else "mean", features=features, outputs=classes or 1)
    return Reply(united.arrays(), weight=weight, metrics=metrics or {})


def _labels(known: Any, classes: int) -> Array:
    """Return the labels of a site as numbers of the job's classes. Raises `BadInput` for others."""
    found = np.asarray(known)
    if found.dtype.kind not in "iufb" or (found != np.floor(found)).any() or found.min() < 0 or found.max() >= classes:
        raise BadInput(
            f"this site has the labels {', '.join(map(str, known))}",
            why=f"the job says `classes: {classes}`, so they are 0 to {classes - 1}",
            fix="number the classes alike at all sites",
        )
    return found.astype(np.int64)


def tree_of(tree: Any, labels: Array | None, classes: int) -> Trees:
    """Return one `tree_` of scikit-learn as arrays: rows end in the same leaves.

    A row goes left there if its float32 value is at most a float64 threshold, here if it is below the next float32.
    Where the threshold is infinite, because the node asks only whether a value is missing, it is the largest float32.
    """
    inner = tree.children_left >= 0
    bound = np.minimum(tree.threshold, MOST).astype(np.float32)
    above = np.where(bound.astype(np.float64) > tree.threshold, bound, np.nextafter(bound, MOST))
    said = tree.value[:, 0, :]
    if labels is None:
        value = said.astype(np.float32)
    else:
        value = np.zeros((len(inner), classes), np.float32)
        value[:, labels] = said / said.sum(axis=1, keepdims=True)
    value[inner] = 0
    return Trees(
        sizes=np.array([len(inner)], np.int32),
        group=np.zeros(1, np.int32),
        feature=np.where(inner, tree.feature, -1).astype(np.int32),
        threshold=np.where(inner, above, 0).astype(np.float32),
        left=np.where(inner, tree.children_left, -1).astype(np.int32),
        right=np.where(inner, tree.children_right, -1).astype(np.int32),
        missing_left=tree.missing_go_to_left.astype(bool) & inner,
        value=value,
    )
