"""Models of scikit-learn: arrays out and in, before the first fit, and what averaging them reaches."""

import numpy as np
import pytest

import convoy
from convoy import testing
from convoy.errors import BadInput

datasets = pytest.importorskip(
    "sklearn.datasets", reason="scikit-learn is not installed: it comes with the extra `demo`"
)

from sklearn import ensemble, linear_model, naive_bayes, neural_network, svm  # noqa: E402


def iris():
    x, y = datasets.load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return ((x - x.mean(axis=0)) / x.std(axis=0))[order], y[order]


CLASSIFIERS = {
    "logistic": lambda: linear_model.LogisticRegression(warm_start=True),
    "sgd": lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0),
    "perceptron": lambda: linear_model.Perceptron(random_state=0),
    "svm": lambda: svm.LinearSVC(random_state=0),
    "network": lambda: neural_network.MLPClassifier((8,), learning_rate_init=0.05, random_state=0),
}
REGRESSORS = {
    "linear": linear_model.LinearRegression,
    "ridge": linear_model.Ridge,
    "lasso": lambda: linear_model.Lasso(0.01),
    "sgd": lambda: linear_model.SGDRegressor(random_state=0),
    "network": lambda: neural_network.MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.05, random_state=0),
}


@pytest.mark.parametrize("make", CLASSIFIERS.values(), ids=CLASSIFIERS)
@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2]], ids=["two", "three"])
def test_a_fresh_classifier_takes_arrays_predicts_and_learns_on_from_a_site_that_lacks_a_class(make, classes):
    x, y = iris()
    some = y < len(classes)
    x, y = x[some], y[some]
    first = convoy.sklearn.start(make(), 4, classes=classes)
    model = convoy.sklearn.load(make(), first, classes=classes)
    assert {name: array.shape for name, array in convoy.sklearn.arrays(model).items()} == {
        name: array.shape for name, array in first.items()
    }
    fitted = make()
    fitted.fit(x, y)
    again = convoy.sklearn.load(make(), convoy.sklearn.arrays(fitted), classes=classes)
    assert (again.predict(x) == fitted.predict(x)).all()
    if hasattr(model, "partial_fit"):
        fewer = y > 0
        for _ in range(30):
            model.partial_fit(x[fewer], y[fewer])
        assert model.score(x[fewer], y[fewer]) > 0.8
        assert model.classes_.tolist() == classes


@pytest.mark.parametrize("make", REGRESSORS.values(), ids=REGRESSORS)
def test_a_fresh_regressor_takes_arrays_and_predicts(make):
    x, _ = iris()
    y = x @ [1.0, 2, 3, 4] + 5
    first = convoy.sklearn.start(make(), 4)
    assert convoy.sklearn.load(make(), first).predict(x).shape == y.shape
    fitted = make()
    if hasattr(fitted, "partial_fit"):
        for _ in range(100):
            fitted.partial_fit(x, y)
    else:
        fitted.fit(x, y)
    again = convoy.sklearn.load(make(), convoy.sklearn.arrays(fitted))
    np.testing.assert_allclose(again.predict(x), fitted.predict(x), rtol=1e-12)


def test_one_round_of_fedavg_gives_the_naive_bayes_of_all_rows():
    x, y = iris()

    def train(task):
        rows = task.data["rows"]
        mine = naive_bayes.GaussianNB().partial_fit(x[rows], y[rows], classes=[0, 1, 2])
        return convoy.Reply(convoy.sklearn.arrays(mine), weight=len(rows))

    order = np.argsort(y, kind="stable")  # sorted by label: sites lack classes
    sites = {f"s{place}": {"rows": rows} for place, rows in enumerate(np.split(order, [30, 80, 110]))}
    first = convoy.sklearn.start(naive_bayes.GaussianNB(), 4, classes=[0, 1, 2])
    result = testing.run("fedavg", train, sites=sites, model=first, rounds=1, max_share=1.0, max_norm_ratio=0)
    united = convoy.sklearn.load(naive_bayes.GaussianNB(), result.model, classes=[0, 1, 2])
    pooled = naive_bayes.GaussianNB().fit(x, y)
    np.testing.assert_allclose(united.predict_proba(x), pooled.predict_proba(x), atol=1e-9)
    untouched = convoy.sklearn.load(naive_bayes.GaussianNB(), first, classes=[0, 1, 2])
    assert not hasattr(untouched, "theta_")


def test_averaged_logistic_regression_comes_within_two_hundredths_of_the_pooled_one():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = ((x - x.mean(axis=0)) / x.std(axis=0))[order], y[order]

    def train(task):
        model = linear_model.SGDClassifier(loss="log_loss", random_state=task.seed % 1000, alpha=0.001)
        convoy.sklearn.load(model, task.model, classes=[0, 1])
        model.partial_fit(*task.data["rows"])
        return convoy.Reply(convoy.sklearn.arrays(model), weight=len(task.data["rows"][1]))

    sites = {f"s{place}": {"rows": (x[place:400:4], y[place:400:4])} for place in range(4)}
    first = convoy.sklearn.start(linear_model.SGDClassifier(), 30, classes=[0, 1])
    result = testing.run("fedavg", train, sites=sites, model=first, rounds=10)
    model = convoy.sklearn.load(linear_model.SGDClassifier(), result.model, classes=[0, 1])
    pooled = linear_model.LogisticRegression(max_iter=1000).fit(x[:400], y[:400])
    assert model.score(x[400:], y[400:]) > pooled.score(x[400:], y[400:]) - 0.02


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: convoy.sklearn.arrays(linear_model.Ridge()), "Ridge is not fitted"),
        (lambda: convoy.sklearn.arrays(ensemble.RandomForestClassifier()), "no model that can be averaged"),
        (lambda: convoy.sklearn.arrays(linear_model.RidgeClassifier()), "no model that can be averaged"),
        (lambda: convoy.sklearn.arrays(svm.SVC()), "no model that can be averaged"),
        (lambda: convoy.sklearn.arrays(linear_model.SGDOneClassSVM()), "no model that can be averaged"),
        (lambda: convoy.sklearn.arrays(linear_model.SGDClassifier(average=True)), "no model that can be averaged"),
        (lambda: convoy.sklearn.start(linear_model.SGDClassifier(), 4), "the labels of SGDClassifier are not known"),
        (lambda: convoy.sklearn.start(linear_model.SGDClassifier(), 4, classes=[1]), "there are 1 labels"),
        (lambda: convoy.sklearn.load(linear_model.Ridge(), {"w": np.zeros(3)}), "no array 'coef_'"),
        (
            lambda: convoy.sklearn.load(
                linear_model.SGDClassifier(), {"coef_": np.zeros((1, 4)), "intercept_": np.zeros(1)}, classes=[0, 1, 2]
            ),
            "the model has coef_ .3, 4.",
        ),
        (
            lambda: convoy.sklearn.load(
                linear_model.Ridge().fit(np.eye(3), [1, 2, 3]), {"coef_": np.zeros(4), "intercept_": np.zeros(1)}
            ),
            "the arrays are of 4 features",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, said):
    with pytest.raises(BadInput, match=said):
        call()
