"""Statistics of tables: those of all rows together, whatever the sites, within what each site may tell."""

import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy import testing
from convoy.errors import BadInput
from convoy.flows import pooled
from convoy.flows.fleet import NotEnough
from convoy.flows.pooled import Moments, Pair, Parts
from convoy.privacy import cells
from convoy.sim.plan import read_plan
from convoy.sim.run import run as simulate
from convoy.worker.built_in import KINDS, choose

EVERYTHING = [
    "count", "missing", "sum", "mean", "variance", "std", "min", "max", "histogram", "quantiles", "correlation",
]  # fmt: skip
JOB = {"table": "patients", "columns": ["age", "bmi"], "statistics": EVERYTHING}


def rows_of(count, seed=0):
    """Rows of sex, age and bmi; some values are missing."""
    dice = np.random.default_rng(seed)
    age, bmi = dice.integers(18, 95, count).astype(float), dice.normal(26, 4, count)
    age[dice.random(count) < 0.1], bmi[dice.random(count) < 0.2] = np.nan, np.nan
    return list(zip(np.where(dice.random(count) < 0.6, "f", "m").tolist(), age.tolist(), bmi.tolist(), strict=True))


def write(path, rows, heads=("sex", "age", "bmi")):
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(heads)
        out.writerows([["" if it != it else repr(it) if isinstance(it, float) else it for it in row] for row in rows])
    return {"patients": str(path)}


def described(sites, **given):
    result = testing.run("statistics", KINDS, sites=sites, **{**JOB, **given})
    return json.loads(result.model["statistics.json"].tobytes()), result


@pytest.fixture
def three(tmp_path):
    """Three sites of different sizes, and all their rows."""
    parts = {name: rows_of(count, seed) for seed, (name, count) in enumerate({"a": 300, "b": 700, "c": 1500}.items())}
    sites = {name: write(tmp_path / f"{name}.csv", rows) for name, rows in parts.items()}
    return sites, [row for rows in parts.values() for row in rows]


def test_counts_are_exact_and_moments_are_those_of_all_rows_together(three):
    sites, rows = three
    said, result = described(sites)
    assert said["rows"] == len(rows)
    for place, name in enumerate(JOB["columns"]):
        column = np.array([row[1 + place] for row in rows])
        there, it = column[~np.isnan(column)], said["columns"][name]
        assert it["count"] == len(there)
        assert it["missing"] == np.isnan(column).sum()
        wanted = {"sum": there.sum(), "mean": there.mean(), "variance": there.var(ddof=1), "std": there.std(ddof=1)}
        for what, value in wanted.items():
            assert it[what] == pytest.approx(value, rel=1e-12), (name, what)
        assert result.model["count"][0, place] == len(there)
    whole = np.array([row[1:] for row in rows])
    both = whole[~np.isnan(whole).any(1)]
    assert said["correlation"]["matrix"][0][1] == pytest.approx(np.corrcoef(both.T)[0, 1], abs=1e-12)
    assert said["correlation"]["matrix"][1][1] == 1.0


def test_a_histogram_has_the_counts_of_numpy_between_its_edges(three):
    sites, rows = three
    said, _ = described(sites, ranges={"age": [20, 80]})
    for place, name in enumerate(JOB["columns"]):
        column = np.array([row[1 + place] for row in rows])
        column = column[~np.isnan(column)]
        bars = said["columns"][name]["histogram"]
        edges = np.array(bars["edges"])
        inside = column[(column >= edges[0]) & (column < edges[-1])]
        np.testing.assert_array_equal(bars["counts"], np.histogram(inside, edges)[0])
        assert (bars["below"], bars["above"]) == ((column < edges[0]).sum(), (column >= edges[-1]).sum())
        assert len(bars["counts"]) >= 7
    assert said["columns"]["age"]["histogram"]["below"] > 0


def test_each_quantile_lies_in_the_interval_that_is_told_and_the_interval_is_narrow(three):
    sites, rows = three
    levels = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    said, _ = described(sites, quantiles=levels)
    for place, name in enumerate(JOB["columns"]):
        column = np.sort([row[1 + place] for row in rows if not math.isnan(row[1 + place])])
        for q, it in zip(levels, said["columns"][name]["quantiles"], strict=True):
            assert it["from"] <= np.quantile(column, q, method="inverted_cdf") < it["to"]
            assert it["from"] <= it["value"] <= it["to"]
            between = np.searchsorted(column, it["to"]) - np.searchsorted(column, it["from"])
            assert between <= 0.05 * len(column) + 30  # rows of a few parts


def test_groups_are_described_as_if_each_were_a_table(three):
    sites, rows = three
    said, _ = described(sites, by="sex")
    for sex, it in said["groups"].items():
        mine = [row for row in rows if row[0] == sex]
        assert it["rows"] == len(mine)
        for place, name in enumerate(JOB["columns"]):
            column = np.array([row[1 + place] for row in mine])
            column = column[~np.isnan(column)]
            found = it["columns"][name]
            assert found["count"] == len(column)
            assert found["mean"] == pytest.approx(column.mean(), rel=1e-12)
            assert found["variance"] == pytest.approx(column.var(ddof=1), rel=1e-12)
            edges = np.array(found["histogram"]["edges"])
            np.testing.assert_array_equal(found["histogram"]["counts"], np.histogram(column, edges)[0])
            median = found["quantiles"][1]
            assert median["from"] <= np.quantile(column, 0.5, method="inverted_cdf") < median["to"]
    assert list(said["groups"]) == ["f", "m"]
    assert described(sites, by="sex", groups=["m"])[0]["groups"] == {"m": said["groups"]["m"]}


def test_a_group_that_a_site_has_too_few_rows_of_is_suppressed_there_and_said_to_be(tmp_path):
    few = [("x", 50.0, 20.0)] * 4
    sites = {
        "a": write(tmp_path / "a.csv", [*rows_of(200, 1), *few]),
        "b": write(tmp_path / "b.csv", [*rows_of(200, 2), *few * 5]),
    }
    said, _ = described(sites, by="sex", groups=["f", "m", "x", "absent"])
    assert said["groups"]["x"]["rows"] == 20
    assert said["groups"]["x"]["suppressed_at"] == ["a"]
    assert said["groups"]["x"]["columns"]["age"]["mean"] == 50.0
    assert said["groups"]["absent"]["rows"] == {"suppressed": "fewer than 10 rows"}
    assert said["groups"]["absent"]["columns"]["age"] == {"suppressed": "fewer than 10 rows"}
    # a's total and its larger groups would give away the 4, so the smaller of these is not told either
    assert {name for name, it in said["groups"].items() if "a" in it.get("suppressed_at", [])} == {"m", "x", "absent"}
    tables = {table["title"]: table for table in said["tables"]}
    assert tables["sex = absent: suppressed: fewer than 10 rows"]["notes"][0] == "age: suppressed: fewer than 10 rows"
    assert tables["sex = x: 20"]["notes"][-1].endswith(": without a, where it is suppressed")
    (counted,) = tables["groups by sex"]["rows"]
    assert counted[0].endswith(" of 424 rows are in groups that sites release; the others are suppressed")


def test_minimum_and_maximum_are_the_policys_to_tell(three):
    sites, _ = three
    said, _ = described(sites)
    assert said["columns"]["age"]["min"] == {"suppressed": "the policy of a, b, c does not release it"}


TABLE = st.lists(st.tuples(st.sampled_from("fm"), st.floats(-1e6, 1e6), st.floats(1e-3, 1e3)), min_size=30, max_size=90)


@given(TABLE, st.data())
@settings(max_examples=25, deadline=None)
def test_any_split_of_a_table_gives_what_the_whole_gives(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("split")
    cut = data.draw(st.integers(12, len(rows) - 12))
    whole, _ = described({"a": write(folder / "whole.csv", rows)})
    parts = {"a": write(folder / "1.csv", rows[:cut]), "b": write(folder / "2.csv", rows[cut:])}
    split, _ = described(parts)
    swapped, _ = described({"a": parts["b"], "b": parts["a"]})
    assert swapped == split  # to the bit
    for name in JOB["columns"]:
        one, two = whole["columns"][name], split["columns"][name]
        assert (one["count"], one["missing"]) == (two["count"], two["missing"])
        scale = max(abs(row[1 + JOB["columns"].index(name)]) for row in rows)
        assert two["mean"] == pytest.approx(one["mean"], rel=1e-12, abs=1e-14 * scale)
        assert two["variance"] == pytest.approx(one["variance"], rel=1e-12, abs=1e-14 * scale**2)


MOMENTS = st.builds(Moments, st.integers(1, 10**6), st.floats(-1e6, 1e6), st.floats(0, 1e6))


@given(st.lists(MOMENTS, min_size=1, max_size=8), st.randoms())
def test_the_order_of_sites_does_not_change_a_bit_of_the_moments(each, dice):
    again = list(each)
    dice.shuffle(again)
    assert pooled.moments(again) == pooled.moments(each)
    pairs = [Pair(one.count, (one.mean, -one.mean), (one.m2, one.m2 / 2), one.m2 / 3) for one in each]
    mixed = list(pairs)
    dice.shuffle(mixed)
    assert pooled.correlation(mixed) == pooled.correlation(pairs)


@given(
    st.lists(st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=10, max_size=60), min_size=1, max_size=4),
    st.floats(0.001, 0.999),
    st.integers(1, 50),
)
@settings(deadline=None)
def test_quantiles_and_histograms_hold_for_parts_of_any_sites(sites, q, bins):
    found = []
    for values in sites:
        low, counts = np.unique(cells.floors(np.array(values)), return_counts=True)
        found.append(cells.parts(low, counts, 10))
    parts = Parts(*(np.concatenate([getattr(one, name) for one in found]) for name in ("low", "high", "counts")))
    whole = np.concatenate(sites)
    low, high = pooled.quantile(parts, q)
    assert low <= np.quantile(whole, q, method="inverted_cdf") < high
    bars = pooled.histogram(parts, bins)
    assert bars.counts.sum() == len(whole)
    np.testing.assert_array_equal(bars.counts, np.histogram(whole, bars.edges)[0])
    assert len(bars.counts) <= bins + 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"statistics": ["median"]}, "wanted a list out of count, missing, sum"),
        ({"columns": []}, "wanted a list of 1 to 500 different names"),
        ({"groups": ["f"]}, "of the column that `by` names"),
        ({"by": "age"}, "a column that is not among `columns`"),
        ({"ranges": {"age": [5, 1]}}, "the lower one first"),
        ({"quantiles": [1.5]}, "wanted numbers between 0 and 1"),
        ({"bins": 0}, "wanted 1 to 1000"),
    ],
)
def test_a_parameter_that_cannot_be_is_told_before_anything_runs(given, said):
    with pytest.raises(BadInput) as caught:
        testing.run("statistics", KINDS, sites={"a": {}}, **{**JOB, **given})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"columns": ["height"]}, "b: BadInput: b.csv has no column 'height' · it has sex, age, bmi"),
        ({"columns": ["sex"]}, "b: BadInput: b.csv:2: column 'sex' has a value that is not a number"),
        ({"table": "visits"}, "b: BadInput: this site has no data named 'visits' · it has patients"),
        ({"by": "name"}, "b: BadInput: b.csv has no column 'name'"),
    ],
)
def test_a_site_that_cannot_answer_says_why(tmp_path, given, said):
    with pytest.raises(NotEnough) as caught:
        described({"b": write(tmp_path / "b.csv", rows_of(50))}, **given)
    assert said in str(caught.value)


def test_a_table_of_fewer_rows_than_the_minimum_is_not_described(tmp_path):
    with pytest.raises(NotEnough, match="table 'patients' has too few rows here"):
        described({"b": write(tmp_path / "b.csv", rows_of(9))})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("moments.count", -7, "it has counts that cannot be"),
        ("rows", -1, "it has counts that cannot be"),
        ("moments.mean", 1e300, "it has numbers that cannot be"),
        ("moments.m2", -1.0, "it has a negative sum of squares"),
        ("parts.column", 2, "it has parts that cannot be"),
        ("parts.high", -1e9, "it has parts that cannot be"),
    ],
)
def test_a_site_that_tells_what_cannot_be_is_left_out_by_name(tmp_path, name, value, said):
    def lies(task):
        told = KINDS["statistics"](task)
        if task.site == "b":
            told.arrays[name].reshape(-1)[0] = value
        return told

    sites = {site: write(tmp_path / f"{site}.csv", rows_of(100, 1)) for site in "ab"}
    result = testing.run("statistics", lies, sites=sites, **JOB)
    assert json.loads(result.model["statistics.json"].tobytes())["sites"] == ["a"]
    assert f"round 1: b's answer to 'statistics' does not count: {said}" in result.log


def test_convoys_own_trainer_says_which_questions_it_answers(tmp_path):
    async def workflow(fleet):
        async for answer in fleet.ask("train", {}):
            raise AssertionError(answer.site)

    with pytest.raises(NotEnough, match=r"Convoy's own trainer has no answer to 'train' questions(?s:.)*statistics"):
        testing.run(workflow, lambda task: choose(task.kind)(task), sites=("a",))


def test_a_simulation_divides_a_table_among_sites_and_leaves_the_document_and_the_same_bits(tmp_path):
    rows = rows_of(900, 5)
    write(tmp_path / "patients.csv", rows)
    job = tmp_path / "job"
    job.mkdir()
    (job / "job.yaml").write_text(
        json.dumps({"name": "describe", "workflow": "statistics", "with": {**JOB, "by": "sex"}, "seed": 1})
    )
    (job / "simulate.yaml").write_text("sites: 3\ndata: {patients: {file: ../patients.csv, split: iid}}\n")
    models = set()
    for workers in (0, 2):
        done = simulate(read_plan(job), tmp_path / f"of-{workers}", workers=workers)
        assert done.job.state == "completed", done.job.cause
        models.add(done.rounds[-1].model)
    assert len(models) == 1
    said = json.loads((done.folder / "statistics.json").read_text())
    assert said["rows"] == 900
    ages = np.array([row[1] for row in rows])
    assert said["columns"]["age"]["mean"] == pytest.approx(np.nanmean(ages), rel=1e-12)
