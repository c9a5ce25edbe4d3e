"""Survival at sites: Kaplan-Meier curves, the log-rank test and Cox's regression are those of all rows together."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy import testing
from convoy.errors import BadInput
from convoy.flows import survival
from convoy.flows.fleet import NotEnough
from convoy.worker.built_in import KINDS
from convoy.worker.survival import grid, joined
from tests.flows.tables import divided, fitted, lung, write

ASKED = {"time": "time", "event": "event", "until": 20, "steps": 4}  # intervals of five months


def binned(columns, until=20, steps=4):
    """Return times as the end of their interval, and events; later ones are censored at the end."""
    ends = grid(until, steps)
    place = np.searchsorted(ends, columns["time"])
    late = place == steps
    return ends[np.where(late, steps - 1, place)], (columns["event"] == 1) & ~late


def product_limit(time, died, ends):
    """Kaplan and Meier, 1958, row by row; Greenwood's sum beside it."""
    curve, sums, value, green = [], [], 1.0, 0.0
    for end in ends:
        at, gone = (time >= end - 1e-9).sum(), ((np.abs(time - end) < 1e-9) & died).sum()
        value *= 1 - gone / at if at else 1
        green += gone / (at * (at - gone)) if at > gone else 0
        curve.append(value)
        sums.append(green)
    return np.array(curve), np.array(sums)


def breslow(time, died, x, beta):
    """The log partial likelihood by its definition, with gradient and Hessian: Breslow, 1974, equation 7."""
    value, gradient, hessian = 0.0, np.zeros(len(beta)), np.zeros((len(beta), len(beta)))
    for end in np.unique(time[died]):
        risk, gone = time >= end, (time == end) & died
        w = np.exp(x[risk] @ beta)
        mean = w @ x[risk] / w.sum()
        value += (x[gone] @ beta).sum() - gone.sum() * math.log(w.sum())
        gradient += x[gone].sum(0) - gone.sum() * mean
        hessian -= gone.sum() * ((x[risk] * w[:, None]).T @ x[risk] / w.sum() - np.outer(mean, mean))
    return value, gradient, hessian


def test_curves_and_bands_are_those_of_all_rows_together(tmp_path):
    columns = lung(3000)
    sites = divided(tmp_path, columns, [900, 1900])
    said, result = fitted("kaplan_meier", sites, by="arm", groups=["drug", "placebo"], **ASKED)
    ends = grid(20, 4)
    time, died = binned(columns)
    for place, arm in enumerate(("drug", "placebo")):
        mine = columns["arm"] == arm
        curve, green = product_limit(time[mine], died[mine], ends)
        np.testing.assert_allclose(said["groups"][arm]["survival"], curve, rtol=1e-12)
        spread = 1.959963984540054 * np.sqrt(green) / np.log(curve)
        np.testing.assert_allclose(result.model["low"][place], curve ** np.exp(-spread), rtol=1e-9)
        np.testing.assert_allclose(result.model["high"][place], curve ** np.exp(spread), rtol=1e-9)
        assert said["groups"][arm]["rows"] == mine.sum()
        assert said["groups"][arm]["times"] == [5, 10, 15, 20]
        assert said["groups"][arm]["unreleased"] == {}
    assert said["pictures"][0]["kind"] == "lines"


def test_the_log_rank_test_finds_the_drug_and_is_that_of_all_rows(tmp_path):
    columns = lung(2000)
    sites = divided(tmp_path, columns, [800])
    said, _ = fitted("kaplan_meier", sites, by="arm", groups=["drug", "placebo"], **ASKED)
    time, died = binned(columns)
    mine, apart, spread = columns["arm"] == "drug", 0.0, 0.0
    for end in np.unique(time[died]):
        risk, gone = time >= end, (time == end) & died
        n, n1, d = risk.sum(), (risk & mine).sum(), gone.sum()
        apart += (gone & mine).sum() - d * n1 / n
        spread += d * (n1 / n) * (1 - n1 / n) * (n - d) / (n - 1)
    test = said["log_rank"]
    assert test["statistic"] == pytest.approx(apart**2 / spread, rel=1e-12)
    assert test["degrees_of_freedom"] == 1
    assert test["p"] == pytest.approx(math.erfc(math.sqrt(apart**2 / spread / 2)), rel=1e-10)
    assert test["p"] < 1e-3
    assert said["tables"][1]["title"].startswith("log-rank test: chi-square ")


def test_the_log_rank_test_of_three_groups_does_not_depend_on_their_order():
    dice = np.random.default_rng(0)
    events, censored = dice.integers(5, 30, (3, 6)), dice.integers(5, 30, (3, 6))
    risk = np.flip(np.cumsum(np.flip(events + censored, 1), axis=1), 1)
    one = survival.log_rank(risk, events)
    other = survival.log_rank(risk[::-1], events[::-1])
    assert one.freedom == 2
    assert one.statistic == pytest.approx(other.statistic, rel=1e-10)
    assert sum(one.expected) == pytest.approx(events.sum())


def test_cox_regression_is_the_pooled_one_and_finds_the_known_hazard(tmp_path):
    columns = lung(3000)
    sites = divided(tmp_path, columns, [1000, 1900])
    given = {**ASKED, "steps": 10, "columns": ["x"], "categories": {"arm": ["placebo", "drug"]}}
    said, result = fitted("cox", sites, **given)
    time, died = binned(columns, steps=10)
    x = np.column_stack([columns["x"], columns["arm"] == "drug"]).astype(float)
    beta = np.zeros(2)
    for _ in range(20):
        _, gradient, hessian = breslow(time, died, x, beta)
        beta = beta - np.linalg.solve(hessian, gradient)
    np.testing.assert_allclose(result.model["coefficients"], beta, rtol=1e-9)
    np.testing.assert_allclose(result.model["covariance"], np.linalg.inv(-hessian), rtol=1e-8)
    assert [line["term"] for line in said["terms"]] == ["x", "arm = drug"]
    for line, true in zip(said["terms"], (0.7, -0.5), strict=True):
        assert line["low"] < true < line["high"]
        assert line["hazard_ratio"] == pytest.approx(math.exp(line["coefficient"]), rel=1e-12)
    assert said["rows"] == 3000


TIMES = st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.floats(-2, 2)), min_size=120, max_size=160)


@given(TIMES, st.data())
@settings(max_examples=15, deadline=None)
def test_any_split_gives_the_pooled_curve_of_the_times_as_sites_count_them(tmp_path_factory, rows, data):
    time, event, x = np.array(rows, float).T
    cut = data.draw(st.integers(50, len(rows) - 50))
    parts = divided(tmp_path_factory.mktemp("split"), {"time": time, "event": event, "x": x}, [cut])
    given = {"time": "time", "event": "event", "until": 4, "steps": 4}
    moved = time.copy()
    for part in (slice(0, cut), slice(cut, None)):
        counts = [np.array([((time[part] == t) & (event[part] == e)).sum() for t in range(1, 5)]) for e in (1, 0)]
        places = [joined(count, 10) for count in counts]
        if any(it is None for it in places):
            return  # this site has too few events to say anything
        moved[part] = 1 + np.where(event[part] == 1, *np.stack(places)[:, time[part].astype(int) - 1])
    said, split = fitted("kaplan_meier", parts, **given)
    _, swapped = fitted("kaplan_meier", {"s0": parts["s1"], "s1": parts["s0"]}, **given)
    for name in ("survival", "low", "high"):
        assert split.model[name].tobytes() == swapped.model[name].tobytes()
    curve, _ = product_limit(moved, event == 1, [1, 2, 3, 4])
    np.testing.assert_allclose(said["groups"]["all rows"]["survival"], curve, rtol=1e-12, atol=1e-15)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(1, 15))
def test_joined_intervals_have_no_rows_or_enough_and_move_times_only_to_later_ones(rows, minimum):
    counts = np.array(rows)
    places = joined(counts, minimum)
    if places is None:
        assert 0 < counts.sum() < minimum
        return
    assert (places[counts > 0] >= np.arange(len(counts))[counts > 0]).all()
    assert (np.diff(places) >= 0).all()
    moved = np.bincount(places, weights=counts)
    assert ((moved == 0) | (moved >= minimum)).all()
    assert moved.sum() == counts.sum()


def test_no_count_below_the_minimum_leaves_and_a_small_group_is_suppressed(tmp_path):
    columns = lung(400)
    columns["arm"][:6] = "third"
    sent = []

    def watched(task):
        told = KINDS[task.kind](task)
        sent.extend(it for name, it in told.arrays.items() if name.endswith("count"))
        return told

    sites = {"s": write(tmp_path / "s.csv", columns)}
    groups = ["drug", "placebo", "third"]
    result = testing.run("kaplan_meier", watched, sites=sites, table="patients", by="arm", groups=groups, **ASKED)
    assert all(((it == -1) | (it >= 10)).all() for it in sent)
    said = json.loads(result.model["statistics.json"].tobytes())
    assert said["groups"]["third"] == {"suppressed": "too few rows, events or censored rows at each site"}
    assert said["groups"]["drug"]["rows"] > 100


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"until": 0}, "wanted a time above 0"),
        ({"steps": 0}, "wanted 1 to 200"),
        ({"by": "arm"}, "wanted all values of 'arm'"),
        ({"groups": ["a", "b"]}, "wanted the column whose values are `groups`"),
        ({"event": "time"}, "wanted another column than `time`"),
    ],
)
def test_a_parameter_that_cannot_be_is_told_before_anything_runs(given, said):
    with pytest.raises(BadInput) as caught:
        testing.run("kaplan_meier", KINDS, sites={"a": {}}, table="patients", **{**ASKED, **given})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"time": -1.0}, "column 'time' has a negative time · row 4 of the table"),
        ({"event": 2.0}, "column 'event' has a value other than 0 (censored) and 1 (an event) · row 4 of the table"),
    ],
)
def test_a_site_says_in_which_row_a_value_cannot_be(tmp_path, change, said):
    columns = lung(100)
    for name, value in change.items():
        columns[name][3] = value
    with pytest.raises(NotEnough) as caught:
        fitted("kaplan_meier", {"s": write(tmp_path / "s.csv", columns)}, **ASKED)
    assert said in str(caught.value)
