"""Fits of tables: k-means, regressions and principal components are those of all rows together."""

import asyncio
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy import testing
from convoy.errors import BadInput, JobFailed
from convoy.flows import fitting, pca
from convoy.flows.fitting import Asking
from convoy.flows.fleet import NotEnough
from convoy.flows.newton import Fit, Point
from convoy.sim.plan import read_plan
from convoy.sim.run import run as simulate
from convoy.worker.built_in import KINDS
from convoy.worker.replies import Reply
from tests.flows.dying import dying
from tests.flows.tables import divided, fitted, write

datasets = pytest.importorskip("sklearn.datasets")

CANCER = ["mean radius", "mean texture", "mean smoothness", "mean symmetry"]


def frame(load, names=None, target="target"):
    """Return a data set of scikit-learn as columns by name."""
    found = load()
    listed = list(found.feature_names)
    columns = {name: found.data[:, listed.index(name)] for name in names or listed}
    return {**columns, target: found.target.astype(float)}


def shuffled(columns, seed=3):
    order = np.random.default_rng(seed).permutation(len(next(iter(columns.values()))))
    return {name: it[order] for name, it in columns.items()}


# ---- logistic and linear regression ----------------------------------------------------------------------------------
def pooled_logistic(x, y):
    """Newton-Raphson on all rows, from the textbook: McCullagh, Nelder, 1989, section 2.5."""
    middle, scale = x.mean(0), x.std(0)
    design = np.column_stack([np.ones(len(x)), (x - middle) / scale])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        beta = beta + np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design, design.T @ (y - p))
    p = 1 / (1 + np.exp(-design @ beta))
    turn = np.diag([1.0, *1 / scale])
    turn[0, 1:] = -middle / scale
    covariance = turn @ np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design) @ turn.T
    return turn @ beta, np.sqrt(np.diag(covariance)), float((y * np.log(p) + (1 - y) * np.log1p(-p)).sum())


def test_logistic_regression_on_breast_cancer_is_the_pooled_fit_to_1e_8(tmp_path):
    columns = shuffled(frame(datasets.load_breast_cancer, CANCER))
    said, result = fitted("logistic", divided(tmp_path, columns, [150, 370]), outcome="target", columns=CANCER)
    x, y = np.column_stack([columns[name] for name in CANCER]), columns["target"]
    wanted, errors, likelihood = pooled_logistic(x, y)
    np.testing.assert_allclose(result.model["coefficients"], wanted, rtol=1e-8)
    np.testing.assert_allclose(np.sqrt(np.diag(result.model["covariance"])), errors, rtol=1e-8)
    assert said["log_likelihood"] == pytest.approx(likelihood, rel=1e-10)
    assert said["rows"] == 569
    line = said["terms"][1]
    assert line["term"] == "mean radius"
    assert line["coefficient"] == pytest.approx(-1.3938, abs=1e-3)  # a larger nucleus is malignant (0)
    assert line["odds_ratio"] == pytest.approx(math.exp(wanted[1]), rel=1e-8)
    assert (line["low"], line["high"]) == pytest.approx(
        (wanted[1] - 1.959964 * errors[1], wanted[1] + 1.959964 * errors[1]), rel=1e-6
    )
    assert result.history[-1]["metrics"]["converged"] == 1.0
    assert len(result.history) - 1 < 12


def test_logistic_regression_is_that_of_scikit_learn(tmp_path):
    model = pytest.importorskip("sklearn.linear_model")
    columns = shuffled(frame(datasets.load_breast_cancer, CANCER))
    _, result = fitted("logistic", divided(tmp_path, columns, [200]), outcome="target", columns=CANCER)
    x = np.column_stack([columns[name] for name in CANCER])
    theirs = model.LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=100).fit(
        (x - x.mean(0)) / x.std(0), columns["target"]
    )
    np.testing.assert_allclose(result.model["coefficients"][1:], theirs.coef_[0] / x.std(0), rtol=1e-5)


def test_categories_are_compared_with_their_first_value_and_missing_rows_do_not_count(tmp_path):
    dice = np.random.default_rng(0)
    stage, age = dice.choice(["I", "II", "III"], 600), dice.normal(60, 10, 600)
    chance = 1 / (1 + np.exp(-(0.03 * (age - 60) + 0.8 * (stage == "II") + 1.5 * (stage == "III") - 1)))
    ill = np.where(dice.random(600) < chance, "yes", "no")
    age[::50] = np.nan
    sites = divided(tmp_path, {"stage": stage, "age": age, "ill": ill}, [300])
    given = {"outcome": "ill", "positive": "yes", "columns": ["age"]}
    said, result = fitted("logistic", sites, categories={"stage": ["I", "II", "III"]}, **given)
    assert [line["term"] for line in said["terms"]] == ["intercept", "age", "stage = II", "stage = III"]
    keep = ~np.isnan(age)
    design = np.column_stack([age, stage == "II", stage == "III"])[keep].astype(float)
    wanted, _, _ = pooled_logistic(design, (ill == "yes")[keep].astype(float))
    np.testing.assert_allclose(result.model["coefficients"], wanted, rtol=1e-8)
    assert said["rows"] == keep.sum()
    with pytest.raises(NotEnough, match="column 'stage' has a value that is not among those that the job gives"):
        fitted("logistic", sites, categories={"stage": ["I", "II"]}, **given)


def test_linear_regression_on_diabetes_is_that_of_the_normal_equations(tmp_path):
    columns = shuffled(frame(datasets.load_diabetes))
    names = [name for name in columns if name != "target"]
    said, result = fitted("linear", divided(tmp_path, columns, [100, 250]), outcome="target", columns=names)
    design = np.column_stack([np.ones(442), *(columns[name] for name in names)])
    wanted, (rest,), *_ = np.linalg.lstsq(design, columns["target"])
    np.testing.assert_allclose(result.model["coefficients"], wanted, rtol=1e-8)
    variance = rest / (442 - 11)
    assert said["residual_variance"] == pytest.approx(variance, rel=1e-10)
    covariance = variance * np.linalg.inv(design.T @ design)
    np.testing.assert_allclose(result.model["covariance"], covariance, rtol=1e-6, atol=1e-9 * covariance.max())
    assert said["terms"][3]["term"] == "bmi"
    assert said["terms"][3]["coefficient"] == pytest.approx(
        519.846, abs=0.01
    )  # as in Efron et al., 2004, table 1: 519.8


REGRESSED = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 1)), min_size=60, max_size=120).filter(
    lambda rows: np.linalg.matrix_rank(np.column_stack([np.ones(len(rows)), np.array(rows)[:, :2]]), tol=0.5) == 3
)


@given(REGRESSED, st.data())
@settings(max_examples=15, deadline=None)
def test_any_split_of_the_rows_gives_the_pooled_regression_and_the_order_of_sites_no_other_bit(
    tmp_path_factory, rows, data
):
    folder = tmp_path_factory.mktemp("split")
    a, b, noise = np.array(rows).T
    columns = {"a": a, "b": b, "y": 2 * a - b + noise}
    cut = data.draw(st.integers(20, len(rows) - 20))
    parts = divided(folder, columns, [cut])
    try:
        _, split = fitted("linear", parts, outcome="y", columns=["a", "b"], min_sites=2)
    except (NotEnough, JobFailed):  # a column of two values, one of them rare in a part; or y follows exactly
        return
    _, swapped = fitted("linear", {"s0": parts["s1"], "s1": parts["s0"]}, outcome="y", columns=["a", "b"])
    for name in ("coefficients", "covariance"):
        assert split.model[name].tobytes() == swapped.model[name].tobytes()
    design = np.column_stack([np.ones(len(a)), a, b])
    wanted = np.linalg.lstsq(design, columns["y"])[0]
    np.testing.assert_allclose(split.model["coefficients"], wanted, rtol=1e-7, atol=1e-8)


def test_separation_and_dependent_columns_are_named_and_nothing_is_fitted(tmp_path):
    x = np.random.default_rng(1).normal(0, 1, 400)
    columns = {"x": x, "twice": 2 * x, "none": np.full(400, 3.0), "y": (x > 0).astype(float)}
    sites = divided(tmp_path, columns, [200])
    with pytest.raises((NotEnough, JobFailed), match=r"separate|separation"):
        fitted("logistic", sites, outcome="y", columns=["x"])
    with pytest.raises(JobFailed, match="the coefficients of x, twice cannot be told apart"):
        fitted("linear", sites, outcome="y", columns=["x", "twice"])
    with pytest.raises(JobFailed, match="none"):
        fitted("linear", sites, outcome="y", columns=["x", "none"])


def test_a_sum_over_few_rows_is_refused_whichever_column_hides_them(tmp_path):
    dice = np.random.default_rng(2)
    x = dice.normal(0, 1, 300)
    columns = {
        "x": x, "rare": (np.arange(300) == 7) * 1.0, "other": (np.arange(300) != 7) * 1.0,
        "half": (np.arange(300) < 150) * 1.0, "late": (np.arange(300) > 146) * 1.0,
        "y": (x + dice.normal(0, 2, 300) > 0) * 1.0, "few": (np.arange(300) < 9) * 1.0,
        "word": np.where(np.arange(300) < 9, "a", "b"),
    }  # fmt: skip
    sites = {"s": write(tmp_path / "s.csv", columns)}
    fitted("logistic", sites, outcome="y", columns=["x", "half"])
    for asked in (
        {"outcome": "y", "columns": ["x", "rare"]},
        {"outcome": "y", "columns": ["x", "other"]},  # its complement is one row
        {"outcome": "y", "columns": ["half", "late"]},  # both are 1 in three rows
        {"outcome": "few", "columns": ["x"]},
        {"outcome": "y", "categories": {"word": ["a", "b"]}},
        {"outcome": "y", "categories": {"word": ["b", "a"]}},
    ):
        with pytest.raises(NotEnough, match="would be over fewer than 10 rows"):
            fitted("logistic", sites, **asked)
    with pytest.raises(NotEnough, match="would be over fewer than 10 rows"):
        fitted("linear", sites, outcome="rare", columns=["x"])  # X^T y is the row
    with pytest.raises(NotEnough, match="has too few rows here"):
        fitted("logistic", {"s": write(tmp_path / "t.csv", {k: v[:9] for k, v in columns.items()})},
               outcome="y", columns=["x"])  # fmt: skip


def test_coefficients_that_single_out_a_row_get_no_hessian(tmp_path):
    """A workflow of the job's own may ask at any place: one where only a single row has a weight is refused."""
    x = np.arange(100.0)
    sites = {"s": write(tmp_path / "s.csv", {"x": x, "y": (x % 2)})}
    asked = {
        "table": "patients",
        "family": "logistic",
        "columns": ["x"],
        "categories": {},
        "outcome": "y",
        "positive": "",
    }
    place = {"middle": np.array([42.0]), "scale": np.ones(1), "beta": np.array([0.0, 50.0])}

    async def curious(fleet):
        shapes = {"rows": ("i8", (1,)), "smallest.count": ("i8", (1,)), "loss": ("f8", (1,))}
        shapes |= {"gradient": ("f8", (2,)), "hessian": ("f8", (2, 2))}
        async for answer in fleet.ask("regression", place, settings=asked, reply=shapes):
            raise AssertionError(answer)

    with pytest.raises(NotEnough, match="a single row has more than half of the weight"):
        testing.run(curious, KINDS, sites=sites)


# ---- k-means ---------------------------------------------------------------------------------------------------------
WINE = ["alcohol", "flavanoids", "color_intensity", "proline"]


def wine():
    columns = shuffled(frame(datasets.load_wine, WINE), 5)
    return columns, np.column_stack([columns[name] for name in WINE])


def test_k_means_on_wine_is_that_of_scikit_learn_from_the_same_start(tmp_path):
    cluster = pytest.importorskip("sklearn.cluster")
    columns, x = wine()
    start = x[[0, 60, 120]]
    said, result = fitted("kmeans", divided(tmp_path, columns, [80]), columns=WINE, start=start.tolist())
    theirs = cluster.KMeans(3, init=start, n_init=1, algorithm="lloyd", tol=0).fit(x)
    counts = np.bincount(theirs.labels_)
    assert all(not one["suppressed_at"] for one in said["clusters"])
    np.testing.assert_allclose(result.model["centres"], theirs.cluster_centers_, rtol=1e-9)
    np.testing.assert_array_equal(result.model["count"], counts)
    assert said["inertia"] == pytest.approx(theirs.inertia_, rel=1e-9)
    assert said["converged"]


def test_k_means_from_a_drawn_start_finds_the_three_wines(tmp_path):
    metrics = pytest.importorskip("sklearn.metrics")
    columns, x = wine()
    said, result = fitted(
        "kmeans", divided(tmp_path, columns, [90]), columns=WINE, clusters=3, seed=1, standardise=True
    )
    apart = ((x[:, None] - result.model["centres"]) / x.std(0)) ** 2
    rand = metrics.adjusted_rand_score(columns["target"], apart.sum(2).argmin(1))
    assert rand > 0.75, rand
    assert said["pictures"][0]["ticks"] == WINE


def test_a_cluster_of_few_rows_at_a_site_gets_nothing_from_there_and_an_empty_one_stays(tmp_path):
    dice = np.random.default_rng(0)
    left, right = dice.normal(0, 1, 50), dice.normal(20, 1, 50)
    sites = {"a": write(tmp_path / "a.csv", {"x": np.concatenate([left, right])}),
             "b": write(tmp_path / "b.csv", {"x": np.concatenate([left, right[:50], [40.0] * 4])})}  # fmt: skip
    said, result = fitted("kmeans", sites, columns=["x"], start=[[0.0], [20.0], [40.0], [900.0]])
    assert said["clusters"][2]["rows"] == 0
    assert result.model["centres"][2:].ravel().tolist() == [40.0, 900.0]
    # b's rows less those of the other clusters would be 4, so b adds nothing to the smaller of these either
    assert sum("b" in one["suppressed_at"] for one in said["clusters"]) == 3


POINTS = st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=60, max_size=100)


@given(POINTS, st.data())
@settings(max_examples=15, deadline=None)
def test_one_step_of_k_means_is_the_pooled_one_for_any_split(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("kmeans")
    x = np.array(rows)
    cut = data.draw(st.integers(10, len(rows) - 10))
    parts = divided(folder, {"a": x[:, 0], "b": x[:, 1]}, [cut])
    start = np.array([[-5.0, -5.0], [5.0, 5.0]])
    nearest = ((x[:, None] - start) ** 2).sum(2).argmin(1)
    sizes = [np.bincount(part, minlength=2) for part in (nearest[:cut], nearest[cut:])]
    if any(((size > 0) & (size < 10)).any() for size in sizes):
        return  # suppressed: not the pooled step, and said so
    given = {"columns": ["a", "b"], "start": start.tolist(), "rounds": 1}
    _, split = fitted("kmeans", parts, **given)
    _, swapped = fitted("kmeans", {"s0": parts["s1"], "s1": parts["s0"]}, **given)
    assert split.model["centres"].tobytes() == swapped.model["centres"].tobytes()
    for place in np.unique(nearest):
        np.testing.assert_allclose(split.model["centres"][place], x[nearest == place].mean(0), rtol=1e-9, atol=1e-9)


# ---- principal components --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("standardise", [False, True])
def test_principal_components_of_wine_are_those_of_scikit_learn(tmp_path, standardise):
    decomposition = pytest.importorskip("sklearn.decomposition")
    columns = shuffled(frame(datasets.load_wine))
    names = [name for name in columns if name != "target"]
    x = np.column_stack([columns[name] for name in names])
    sites = divided(tmp_path, columns, [40, 110])
    said, result = fitted("pca", sites, columns=names, components=5, standardise=standardise)
    theirs = decomposition.PCA(5, svd_solver="full").fit((x - x.mean(0)) / x.std(0, ddof=1) if standardise else x)
    signs = np.sign(theirs.components_[np.arange(5), np.abs(theirs.components_).argmax(1)])
    np.testing.assert_allclose(result.model["components"], theirs.components_ * signs[:, None], atol=1e-8)
    np.testing.assert_allclose(result.model["variance"], theirs.explained_variance_, rtol=1e-9)
    shares = [one["share"] for one in said["components"]]
    np.testing.assert_allclose(shares, theirs.explained_variance_ratio_, rtol=1e-9)
    assert shares[0] == pytest.approx(0.36199 if standardise else 0.99809, abs=1e-4)


@given(st.lists(st.tuples(*[st.floats(-100, 100)] * 3), min_size=30, max_size=60), st.integers(10, 20))
@settings(max_examples=15, deadline=None)
def test_the_covariance_of_any_split_is_the_pooled_one(tmp_path_factory, rows, cut):
    x = np.array(rows)
    parts = divided(tmp_path_factory.mktemp("pca"), dict(zip("abc", x.T, strict=True)), [cut])
    _, split = fitted("pca", parts, columns=["a", "b", "c"])
    _, swapped = fitted("pca", {"s0": parts["s1"], "s1": parts["s0"]}, columns=["a", "b", "c"])
    assert split.model["components"].tobytes() == swapped.model["components"].tobytes()
    wanted = np.cov(x.T)
    rebuilt = (split.model["components"].T * split.model["variance"]) @ split.model["components"]
    np.testing.assert_allclose(rebuilt, wanted, rtol=1e-9, atol=1e-9 * max(np.abs(wanted).max(), 1e-3))


def test_a_matrix_that_is_no_covariance_is_named():
    with pytest.raises(JobFailed, match="with missing values, each pair of columns is over other rows"):
        pca.principal(np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]]))


# ---- what holds for all of them --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("workflow", "given", "said"),
    [
        ("kmeans", {"columns": ["a"]}, "or the first centres as `start`"),
        ("kmeans", {"columns": ["a", "b"], "start": [[1.0]]}, "wanted lists of 2 numbers"),
        ("kmeans", {"columns": ["a"], "start": [[1.0]], "clusters": 2}, "leave this out"),
        ("kmeans", {"columns": [], "clusters": 2}, "wanted a list of at least 1 different names"),
        ("pca", {"columns": ["a", "b"], "components": 3}, "wanted 0 to 2"),
        ("logistic", {"outcome": "y"}, "wanted a column, here or in `categories`"),
        ("logistic", {"outcome": "y", "columns": ["y"]}, "not among `columns`"),
        ("logistic", {"outcome": "y", "categories": {"s": ["one"]}}, "two or more different values"),
        ("linear", {"outcome": "y", "columns": [f"c{n}" for n in range(61)]}, "at most 60"),
    ],
)
def test_a_parameter_that_cannot_be_is_told_before_anything_runs(workflow, given, said):
    with pytest.raises(BadInput) as caught:
        testing.run(workflow, KINDS, sites={"a": {}}, table="patients", **given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("clusters.count", -7, "it has counts that cannot be"), ("clusters.squares", -1.0, "it has a negative sum"),
     ("clusters.sum", 1e300, "it has numbers that cannot be")],
)  # fmt: skip
def test_a_site_that_tells_what_cannot_be_is_left_out_by_name(tmp_path, name, value, said):
    def lies(task):
        told = KINDS[task.kind](task)
        if task.site == "s1":
            told.arrays[name].reshape(-1)[0] = value
        return told

    columns, x = wine()
    sites = divided(tmp_path, columns, [90])
    result = testing.run("kmeans", lies, sites=sites, table="patients", columns=WINE, start=x[[0, 60]].tolist())
    assert json.loads(result.model["statistics.json"].tobytes())["sites"] == ["s0"]
    assert any(said in line for line in result.log)


@pytest.mark.parametrize("last", [2, 3, 4])
@pytest.mark.parametrize(
    ("workflow", "given"),
    [("logistic", {"outcome": "target", "columns": WINE[:2]}), ("kmeans", {"columns": WINE, "clusters": 3, "seed": 1})],
)
def test_a_workflow_that_dies_in_a_round_and_starts_again_ends_with_the_same_bits(tmp_path, workflow, given, last):
    columns, _ = wine()
    columns["target"] = (columns["target"] == 1) * 1.0
    sites, given = divided(tmp_path, columns, [90]), {"table": "patients", **given}
    undisturbed = testing.run(workflow, KINDS, sites=sites, **given)
    made = testing.Federation(KINDS, sites=sites)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(made.run(dying(workflow, last, **given)))
    assert len(made.rounds) < len(undisturbed.rounds)
    again = asyncio.run(made.run(workflow, **given))
    assert len(again.history) == len(undisturbed.history)
    for name, array in undisturbed.model.items():
        assert np.asarray(again.model[name]).tobytes() == np.asarray(array).tobytes(), name
    settled = asyncio.run(made.run(workflow, **given))  # it is over: no further round
    assert len(settled.history) == len(undisturbed.history)


def test_a_step_that_makes_the_loss_larger_is_halved():
    """Newton's step for log cosh(b - 3) from 0 ends near 100, and from there further away."""

    def measures(task):
        (b,) = task.model["beta"] - 3.0
        curve = {
            "loss": [np.logaddexp(b, -b) - np.log(2.0)],
            "gradient": [np.tanh(b)],
            "hessian": [1 / np.cosh(b) ** 2],
        }
        return Reply({"rows": np.array([50]), **{name: np.array(it) for name, it in curve.items()}})

    def point(each, _):
        (it,) = each
        return Point(float(it["loss"][0]), it["gradient"], it["hessian"][:, None], int(it["rows"][0]))

    async def flow(fleet):
        shapes = {"rows": ("i8", (1,)), **dict.fromkeys(("loss", "gradient", "hessian"), ("f8", (1,)))}
        fit = Fit(Asking("none", 1, 0.0), "curve", {}, [], {}, intercept=True, reply=lambda _: shapes, point=point,
                  document=lambda _: {})  # fmt: skip
        await fit.run(fleet, 40)

    result = testing.run(flow, {"curve": measures}, sites=("a",))
    assert result.model["coefficients"] == pytest.approx([3.0], abs=1e-9)
    losses = [one["metrics"]["loss"] for one in result.history[1:]]
    assert max(losses) == losses[1] > losses[0] > losses[-1]


def test_tails_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 3, 4, 7, 10):
        for value in (0.0, 0.1, 1.0, 5.0, 30.0, 200.0):
            assert fitting.chi_square_tail(value, freedom) == pytest.approx(stats.chi2.sf(value, freedom), rel=1e-10)
    for z in (0.0, -1.0, 1.96, 8.0):
        assert fitting.two_sided(z) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-10)


def test_a_simulation_of_a_regression_leaves_the_document_and_the_same_bits_for_any_number_of_workers(tmp_path):
    columns = shuffled(frame(datasets.load_breast_cancer, CANCER))
    write(tmp_path / "patients.csv", columns)
    job = tmp_path / "job"
    job.mkdir()
    with_ = {"table": "patients", "outcome": "target", "columns": CANCER}
    (job / "job.yaml").write_text(json.dumps({"name": "fit", "workflow": "logistic", "with": with_, "seed": 1}))
    (job / "simulate.yaml").write_text("sites: 3\ndata: {patients: {file: ../patients.csv, split: iid}}\n")
    models = set()
    for workers in (0, 2):
        done = simulate(read_plan(job), tmp_path / f"of-{workers}", workers=workers)
        assert done.job.state == "completed", done.job.cause
        models.add(done.rounds[-1].model)
    assert len(models) == 1
    said = json.loads((done.folder / "statistics.json").read_text())
    x = np.column_stack([columns[name] for name in CANCER])
    wanted, *_ = pooled_logistic(x, columns["target"])
    np.testing.assert_allclose([line["coefficient"] for line in said["terms"]], wanted, rtol=1e-8)
