"""Models of scikit-learn in a federation: their coefficients as arrays, set and read, also before the first fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.errors import BadInput

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["arrays", "load", "start"]

LINEAR = ("coef_", "intercept_")
LAYERS = ("coefs_", "intercepts_")
SUPPORT_VECTORS = ("LinearSVC", "LinearSVR")  # the linear ones that do not live in sklearn.linear_model
OTHERS = (
    "SGDOneClassSVM",
    "RANSACRegressor",
    "RidgeClassifier",
    "RidgeClassifierCV",
)  # these do, and keep other things
BAYES = ("share", "mean", "square")  # of a class: its share of the rows; its rows' sums and squares, over all rows


def arrays(model: Any) -> dict[str, Array]:
    """Return what a fitted model has learned, as float64 arrays by name whose weighted mean is a model again.

    - Linear models (`LogisticRegression`, `LinearRegression`, `Ridge`, `SGDClassifier`, `LinearSVC` and others):
      `coef_` (classes, features) or (features,), and `intercept_` (classes,) or (1,).
    - `MLPClassifier`, `MLPRegressor`: `coefs_/0` (inputs, outputs), …, and `intercepts_/0` (outputs,), …
    - `GaussianNB`: `share` (classes,), `mean` and `square` (classes, features), over all rows of this site. With the
      number of rows as the weight, one round of `fedavg` gives the model of all rows together.

    A site that lacks a class fits `GaussianNB` by `partial_fit(X, y, classes=…)`. Raises `BadInput` for a model that is
    not fitted, or of another kind.
    """
    if _is_bayes(model):
        _demand_fitted(model, "class_count_")
        counts = model.class_count_[:, None] / model.class_count_.sum()
        squares = model.var_ - model.epsilon_ + model.theta_**2
        return {"share": counts[:, 0], "mean": counts * model.theta_, "square": counts * squares}
    if _is_network(model):
        _demand_fitted(model, "coefs_")
        return {
            f"{name}/{place}": it.astype(np.float64) for name in LAYERS for place, it in enumerate(getattr(model, name))
        }
    _demand_linear(model)
    _demand_fitted(model, "coef_")
    return {name: np.atleast_1d(np.array(getattr(model, name), np.float64)) for name in LINEAR}


def load(model: Any, learned: Mapping[str, Any], *, classes: Sequence[Any] | None = None) -> Any:
    """Set what a model has learned to arrays by name, such as `task.model`, and return it; it need not be fitted.

    `classes`: all labels that there are, in order; a classifier wants them, as this site may not have all of them.
    Afterwards the model predicts, and `partial_fit` or, with `warm_start=True`, `fit` continues from the arrays. A
    network that is not fitted takes a step on rows of zeros to get its layers, which the arrays then replace;
    `GaussianNB` stays as it is until there is something to set, and always fits anew. Raises
    `BadInput` for arrays of other names or shapes, for labels that do not fit them, and for a model of another kind.
    """
    if _is_bayes(model):
        _load_bayes(model, learned, _labels(model, classes))
    elif _is_network(model):
        _load_network(model, learned, classes)
    else:
        _demand_linear(model)
        _load_linear(model, learned, classes)
    return model


def start(model: Any, features: int, *, classes: Sequence[Any] | None = None) -> dict[str, Array]:
    """Return the arrays of a model before it has learned anything, for `model: train.py:initial` of a job.

    `features`: how many there are; `classes`: all labels, for a classifier. Zeros for linear models; for a network its
    random layers, from its `random_state`. The given model is changed if it is a network. Raises `BadInput` for a model
    of another kind.
    """
    if _is_network(model):
        _shape_network(model, features, classes)
        return arrays(model)
    if _is_bayes(model):
        count = len(_labels(model, classes))
        return {"share": np.zeros(count), "mean": np.zeros((count, features)), "square": np.zeros((count, features))}
    _demand_linear(model)
    rows = _rows(_labels(model, classes)) if _is_classifier(model) else 0
    return {"coef_": np.zeros((rows, features) if rows else features), "intercept_": np.zeros(rows or 1)}


def _load_linear(model: Any, learned: Mapping[str, Any], classes: Sequence[Any] | None) -> None:
    if _is_classifier(model):
        labels, features = _labels(model, classes), _features_of(learned, "coef_", last=True)
        wanted: dict[str, tuple[int, ...]] = {"coef_": (_rows(labels), features), "intercept_": (_rows(labels),)}
        _demand_shapes(learned, wanted)
        model.classes_ = labels
    else:
        features = _features_of(learned, "coef_", last=True)
        _demand_shapes(learned, {"coef_": (features,), "intercept_": (1,)})
    _demand_features(model, features)
    model.coef_ = np.array(learned["coef_"], np.float64)
    model.intercept_ = np.array(learned["intercept_"], np.float64)
    model.n_features_in_ = features


def _load_network(model: Any, learned: Mapping[str, Any], classes: Sequence[Any] | None) -> None:
    features = _features_of(learned, "coefs_/0", last=False)
    _demand_features(model, features)
    if not hasattr(model, "coefs_"):
        _shape_network(model, features, classes)
    _demand_shapes(learned, {name: array.shape for name, array in arrays(model).items()})
    for name in LAYERS:
        for place, it in enumerate(getattr(model, name)):
            it[...] = learned[f"{name}/{place}"]


def _shape_network(model: Any, features: int, classes: Sequence[Any] | None) -> None:
    """Have a network make its layers, by a step on zeros, and forget what its optimiser remembers of that step."""
    if _is_classifier(model):
        labels = _labels(model, classes)
        model.partial_fit(np.zeros((len(labels), features)), labels, classes=labels)
    else:
        model.partial_fit(np.zeros((2, features)), np.zeros(2))
    vars(model).pop("_optimizer", None)  # scikit-learn makes a new one at the next partial_fit


def _load_bayes(model: Any, learned: Mapping[str, Any], labels: Array) -> None:
    features = _features_of(learned, "mean", last=True)
    _demand_features(model, features)
    shape = (len(labels), features)
    _demand_shapes(learned, {"share": shape[:1], "mean": shape, "square": shape})
    share, mean, square = (np.array(learned[name], np.float64) for name in BAYES)
    if not share.sum() > 0:
        return  # the first model: nothing is learned yet
    known = np.maximum(share, np.finfo(np.float64).tiny)[:, None]
    total = mean.sum(axis=0)
    model.epsilon_ = model.var_smoothing * float((square.sum(axis=0) - total**2).max())
    model.theta_ = mean / known
    model.var_ = np.maximum(square / known - model.theta_**2, 0) + model.epsilon_
    model.class_prior_, model.class_count_ = share / share.sum(), share
    model.classes_, model.n_features_in_ = labels, features


def _labels(model: Any, classes: Sequence[Any] | None) -> Array:
    """Return all labels, sorted. Raises `BadInput` where nobody names them."""
    known = getattr(model, "classes_", None) if classes is None else classes
    if known is None:
        raise BadInput(f"the labels of {type(model).__name__} are not known", fix="name all of them: classes=[0, 1]")
    found = np.unique(np.asarray(known))
    if len(found) < 2:
        raise BadInput(
            f"there are {len(found)} labels", fix="name all that there are in the federation: classes=[0, 1]"
        )
    return found


def _rows(labels: Array) -> int:
    return 1 if len(labels) == 2 else len(labels)


def _features_of(learned: Mapping[str, Any], name: str, *, last: bool) -> int:
    if name not in learned or not 0 < np.ndim(learned[name]) <= 2:
        raise BadInput(
            f"there is no array {name!r} of one or two dimensions",
            why=f"there are {', '.join(learned) or 'none'}",
            fix="begin the job with convoy.sklearn.start, and average what convoy.sklearn.arrays returns",
        )
    return int(np.shape(learned[name])[-1 if last else 0])


def _demand_features(model: Any, features: int) -> None:
    known = getattr(model, "n_features_in_", features)
    if known != features:
        raise BadInput(
            f"the arrays are of {features} features, and {type(model).__name__} was fitted to {known}",
            fix="give the same columns in the same order at every site",
        )


def _demand_shapes(learned: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]]) -> None:
    came = {name: tuple(np.shape(it)) for name, it in learned.items()}
    if came != dict(wanted):
        said = (", ".join(f"{name} {list(shape)}" for name, shape in it.items()) for it in (came, wanted))
        raise BadInput(
            f"the arrays are {next(said)}", why=f"the model has {next(said)}", fix="check `classes` and layers"
        )


def _demand_fitted(model: Any, name: str) -> None:
    if not hasattr(model, name):
        raise BadInput(f"{type(model).__name__} is not fitted", fix="call fit or partial_fit first, or use start")


def _demand_linear(model: Any) -> None:
    """Raise `BadInput` for a model that has no coefficients, or whose coefficients are not all that it has learned."""
    homes = {(it.__module__.rpartition(".")[0], it.__name__) for it in type(model).__mro__}
    linear = any(home == "sklearn.linear_model" for home, _ in homes) or {*SUPPORT_VECTORS} & {
        name for _, name in homes
    }
    if not linear or type(model).__name__ in OTHERS or getattr(model, "average", False):
        raise BadInput(
            f"{model!r} is no model that can be averaged",
            why="these can: linear models, without `average`; LinearSVC, LinearSVR, the MLPs, GaussianNB",
            fix="use one of them, or convoy.trees for random forests and boosting",
        )


def _is_bayes(model: Any) -> bool:
    return type(model).__name__ == "GaussianNB"


def _is_network(model: Any) -> bool:
    return type(model).__name__ in ("MLPClassifier", "MLPRegressor")


def _is_classifier(model: Any) -> bool:
    from sklearn.base import is_classifier  # a site without scikit-learn has no such model

    return bool(is_classifier(model))
