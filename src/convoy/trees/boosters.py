"""XGBoost's models: made of trees that are arrays, and read back; grown at a site."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convoy.errors import BadInput
from convoy.model import trees
from convoy.model.trees import Trees
from convoy.trees.margins import margins_of, state_of
from convoy.trees.predict import metrics_of
from convoy.trees.rows import classes_of, features_of, labels_of
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task

PASSED = ("learning_rate", "max_depth", "max_bin", "reg_lambda", "gamma", "min_child_weight")  # as the job gives them
ROOT = 2**31 - 1  # XGBoost's number for the parent of a root


def boost(task: Task, x: Any, y: Any, **parameters: Any) -> Reply:
    """Return the reply to a "train" task of `xgboost_bagging`: the trees that XGBoost grows here, on the job's model.

    `x`: numbers (rows, features), NaN where a value is missing; `y`: a label for each row; `parameters`: others of
    XGBoost, such as `subsample=0.8`. It uses one thread unless `nthread` says otherwise. The margins of the rows stay
    here as the task's state. Raises `BadInput` for rows that do not fit the job, and where XGBoost is not installed.
    """
    told = task.settings
    if "trees" not in told or "learning_rate" not in told:
        raise BadInput("this task asks for no trees of XGBoost", fix="set `workflow: xgboost_bagging` in job.yaml")
    xgboost, kind, outputs = _xgboost(), told["objective"], told["outputs"]
    rows = features_of(x, told["features"])
    labels = labels_of(y, len(rows), kind, classes_of(kind, outputs))
    given = {name: told[name] for name in PASSED} | {"objective": kind, "tree_method": "hist", "seed": task.seed}
    if kind == "multi:softprob":
        given["num_class"] = outputs
    given = {**given, "nthread": 1, **parameters}
    margin = margins_of(task, rows, outputs)
    data = xgboost.DMatrix(rows, labels, base_margin=margin if outputs > 1 else margin[:, 0], nthread=given["nthread"])
    grown = xgboost.train(given, data, told["trees"])
    return Reply(
        _read(json.loads(grown.save_raw("json"))).arrays(),
        weight=float(len(rows)),
        metrics=metrics_of(kind, margin, labels),
        state=state_of(task, margin),
    )


def booster(model: Mapping[str, Any]) -> Any:
    """Return a model of trees as an `xgboost.Booster`.

    Raises `BadInput` where XGBoost is not installed and for a random forest, `Refused` for a model that has no trees.
    """
    return _xgboost().Booster(model_file=bytearray(_written(model).encode()))


def save_xgboost(model: Mapping[str, Any], path: str | Path) -> None:
    """Write a model of trees, such as `convoy.simulate(…).model`, as a file that `xgboost.Booster.load_model` reads.

    The name must end in `.json`. XGBoost itself is not needed. Raises what `booster` raises.
    """
    if Path(path).suffix != ".json":
        raise BadInput(f"{path} does not end in .json", why="XGBoost tells formats apart by the name")
    Path(path).write_text(_written(model))


def _written(model: Mapping[str, Any]) -> str:
    """Return a model in XGBoost's JSON (its documentation, "Introduction to Model IO")."""
    found, kind, features, outputs = trees.of_model(model)
    if kind not in trees.SUMS:
        raise BadInput("a random forest is no model of XGBoost", fix="use convoy.trees.predict")
    several, step = kind == "multi:softprob", max(outputs, 1)
    objective: dict[str, Any] = {"name": kind}
    if several:
        objective["softmax_multiclass_param"] = {"num_class": str(outputs)}
    else:
        objective["reg_loss_param"] = {"scale_pos_weight": "1"}
    inner = {
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(len(found))},
        "iteration_indptr": list(range(0, len(found) + 1, step)),
        "tree_info": found.group.tolist(),
        "trees": [_tree(found.part(number, number + 1), number, features) for number in range(len(found))],
    }
    learner = {
        "attributes": {},
        "feature_names": [],
        "feature_types": [],
        "gradient_booster": {"model": inner, "name": "gbtree"},
        "learner_model_param": {
            "base_score": "5E-1" if kind == "binary:logistic" else "0E0",  # a margin of 0: the first tree is the rest
            "boost_from_average": "0",
            "num_class": str(outputs) if several else "0",
            "num_feature": str(features),
            "num_target": "1",
        },
        "objective": objective,
    }
    return json.dumps({"learner": learner, "version": [2, 0, 0]})


def _tree(one: Trees, number: int, features: int) -> dict[str, Any]:
    nodes, inner = len(one.feature), one.feature >= 0
    parents = np.full(nodes, ROOT)
    for side in (one.left, one.right):
        parents[side[inner]] = np.flatnonzero(inner)
    values = np.where(inner, one.threshold, one.value[:, 0])
    return {
        "base_weights": one.value[:, 0].tolist(),
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "default_left": one.missing_left.astype(int).tolist(),
        "id": number,
        "left_children": one.left.tolist(),
        "loss_changes": [0.0] * nodes,
        "parents": parents.tolist(),
        "right_children": one.right.tolist(),
        "split_conditions": values.astype(np.float32).tolist(),
        "split_indices": np.maximum(one.feature, 0).tolist(),
        "split_type": [0] * nodes,
        "sum_hessian": [0.0] * nodes,
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(features),
            "num_nodes": str(nodes),
            "size_leaf_vector": "1",
        },
    }


def _read(document: Mapping[str, Any]) -> Trees:
    """Return the trees of XGBoost's JSON."""
    inner = document["learner"]["gradient_booster"]["model"]
    pairs = zip(inner["trees"], inner["tree_info"], strict=True)
    return trees.union([_read_tree(tree, group) for tree, group in pairs], 1)


def _read_tree(tree: Mapping[str, Any], group: int) -> Trees:
    """Return one tree, its nodes in the order of their levels; what was pruned is left out."""
    left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
    order = [0]
    for place in order:  # it grows on the way
        order += [int(left[place]), int(right[place])] if left[place] >= 0 else []
    new = np.full(len(left) + 1, -1)  # the last is what -1 stands for
    new[order] = np.arange(len(order))
    inner, at = left[order] >= 0, np.array(order)
    values = np.array(tree["split_conditions"], np.float32)[at]
    return Trees(
        sizes=np.array([len(order)], np.int32),
        group=np.array([group], np.int32),
        feature=np.where(inner, np.array(tree["split_indices"])[at], -1).astype(np.int32),
        threshold=np.where(inner, values, 0).astype(np.float32),
        left=new[left[at]].astype(np.int32),
        right=new[right[at]].astype(np.int32),
        missing_left=np.array(tree["default_left"])[at].astype(bool) & inner,
        value=np.where(inner, 0, values).astype(np.float32).reshape(-1, 1),
    )


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as problem:
        raise BadInput(
            "XGBoost is not installed here", why=str(problem), fix="pip install 'convoy-fl[xgboost]', or xgboost itself"
        ) from problem
    return xgboost
