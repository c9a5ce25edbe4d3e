"""Trees as arrays: the check refuses what could hang or mislead, cuts follow from counts, and sums from all rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from convoy.errors import Refused
from convoy.model import cuts, splits, trees

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


def stump(**changes):
    """A root and two leaves."""
    made = trees.Trees(
        sizes=np.array([3], np.int32),
        group=np.array([0], np.int32),
        feature=np.array([1, -1, -1], np.int32),
        threshold=np.array([0.5, 0, 0], np.float32),
        left=np.array([1, -1, -1], np.int32),
        right=np.array([2, -1, -1], np.int32),
        missing_left=np.array([True, False, False]),
        value=np.array([[0], [-1], [1]], np.float32),
    )
    return replace(made, **{name: np.asarray(value, getattr(made, name).dtype) for name, value in changes.items()})


def checked(one, kind="binary:logistic", features=2, **limits):
    trees.check(one, kind=kind, features=features, outputs=limits.pop("outputs", 1), **limits)


# ---- the check -------------------------------------------------------------------------------------------------------
HOSTILE = [
    ({"left": [0, -1, -1]}, "a child is not behind its parent"),  # a cycle of one
    (
        {"left": [1, 0, -1], "feature": [1, 1, -1], "right": [2, 2, -1], "value": [[0], [0], [1]]},
        "a child is not behind its parent",
    ),
    ({"right": [1, -1, -1]}, "a node has no parent, or several"),
    ({"right": [3, -1, -1]}, "a child is not behind its parent"),
    ({"right": [2**31 - 1, -1, -1]}, "a child is not behind its parent"),
    ({"left": [1, 2, -1]}, "a leaf has a child"),
    ({"feature": [2, -1, -1]}, "a feature beyond the 2"),
    ({"feature": [-2, -1, -1]}, "a feature is below -1"),
    ({"feature": [-1, -1, -1]}, "a leaf has a child"),
    ({"threshold": [np.nan, 0, 0]}, "a threshold is not finite"),
    ({"threshold": [np.inf, 0, 0]}, "a threshold is not finite"),
    ({"value": [[0], [np.nan], [1]]}, "a value is not finite"),
    ({"value": [[0], [-np.inf], [1]]}, "a value is not finite"),
    ({"value": [[0], [3e38], [1]]}, "or too large"),
    ({"value": [[7], [0], [1]]}, "a node that is no leaf has a value"),
    ({"sizes": [10**9]}, "not a division of the nodes"),
    ({"sizes": [4]}, "not a division of the nodes"),
    ({"sizes": [2**31 - 1, 4 - 2**31], "group": [0, 0]}, "not a division of the nodes"),
    ({"sizes": [3, 0], "group": [0, 0]}, "not a division of the nodes"),
    ({"sizes": [1, 2], "group": [0, 0]}, "a child is not behind its parent"),
    ({"group": [1]}, "group is not one of 1"),
    ({"group": [-1]}, "group is not one of 1"),
    ({"group": [0, 0]}, "differ in length"),
    ({"threshold": [0.5]}, "differ in length"),
]


@pytest.mark.parametrize(("changes", "said"), HOSTILE)
def test_trees_that_could_hang_or_mislead_are_refused(changes, said):
    checked(stump())
    with pytest.raises(Refused, match=said):
        checked(stump(**changes))


def test_trees_beyond_the_limits_are_refused():
    with pytest.raises(Refused, match="2 trees; 1 are the limit"):
        checked(trees.union([stump(), stump()], 1), count=1)
    with pytest.raises(Refused, match="more than 0 levels"):
        checked(stump(), depth=0)
    with pytest.raises(Refused, match="shares of the classes"):
        checked(stump(), kind="vote")
    many = np.zeros(trees.MAX_NODES + 1, np.int32)
    with pytest.raises(Refused, match="nodes; 4194304 are the limit"):
        checked(replace(stump(), feature=many))


@given(st.data())
def test_any_arrays_at_all_are_refused_or_route_rows_to_leaves(data):
    nodes = data.draw(st.integers(1, 7))
    ints = arrays.arrays(np.int32, nodes, elements=st.integers(-2, nodes))
    one = trees.Trees(
        sizes=np.array([nodes], np.int32), group=np.zeros(1, np.int32), feature=data.draw(ints), left=data.draw(ints),
        right=data.draw(ints), threshold=np.zeros(nodes, np.float32), missing_left=np.zeros(nodes, bool),
        value=np.zeros((nodes, 1), np.float32),
    )  # fmt: skip
    try:
        checked(one)
    except Refused:
        return
    assert (one.feature[trees.ends(one, np.array([[-1, 1], [np.nan, -1]], np.float32))] == -1).all()


def test_rows_go_left_below_the_threshold_and_missing_values_where_the_node_says():
    x = np.array([[0, 0.4], [0, 0.5], [0, 0.6], [0, np.nan]], np.float32)
    assert trees.margins(stump(), x, np.zeros((4, 1)))[:, 0].tolist() == [-1, 1, 1, -1]
    other = stump(missing_left=[False] * 3)
    assert trees.margins(other, x, np.zeros((4, 1)))[3, 0] == 1


def test_parts_of_a_union_are_the_trees_that_went_in():
    both = trees.union([trees.leaf([0.25]), stump()], 1)
    again = both.part(1)
    assert all(np.array_equal(getattr(again, name), array) for name, array in stump().arrays().items())
    assert trees.of({"x" + name: array for name, array in both.arrays().items()}, "x").sizes.tolist() == [1, 3]


# ---- cut points ------------------------------------------------------------------------------------------------------
def refined(tables, bins):
    """Return the intervals that the questions of the workflow find, each table a site's."""
    columns = tables[0].shape[1]
    shift = 24
    counted = sum(cuts.counts(x, np.arange(columns), np.zeros(columns, np.int64), shift=24, fan=256) for x in tables)
    found = cuts.first(counted)
    while shift and (heavy := found.heavy(bins)).any():
        shift -= 4
        places = found.column[heavy], found.low[heavy]
        found = found.refined(heavy, sum(cuts.counts(x, *places, shift=shift, fan=16) for x in tables), 1 << shift)
    return found


@given(arrays.arrays(np.float32, st.integers(1, 60), elements=FLOATS))
def test_keys_have_the_order_of_the_numbers_and_lead_back_to_them(values):
    keys = cuts.keys(values)
    assert ((keys[:, None] < keys) == (values[:, None] < values)).all()
    assert (cuts.values_of(keys) == values).all()


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 200), st.just(2)), elements=FLOATS | st.integers(0, 5)),
    st.integers(2, 16),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=60)
def test_cut_points_do_not_depend_on_who_holds_which_rows_and_no_bin_is_too_large(x, bins, sites):
    found = refined([x], bins)
    divided = refined([x[place::sites] for place in range(sites)], bins)
    points = cuts.cut_points(found, 2, bins)
    for column, mine in enumerate(points):
        assert np.array_equal(mine, cuts.cut_points(divided, 2, bins)[column])
        assert len(mine) < bins
        assert (np.diff(mine) > 0).all()
        place = np.searchsorted(mine, x[:, column], side="right")
        for number in range(len(mine) + 1):
            inside = x[place == number, column]
            assert len(np.unique(inside)) <= 1 or len(inside) <= 2.5 / bins * len(x) + 1e-9


def test_cuts_of_few_values_are_those_values_but_the_first():
    x = np.repeat(np.float32([3, 0, -7.5, np.nan]), 40)[:, None]
    assert cuts.cut_points(refined([x], 64), 1, 64)[0].tolist() == [0, 3]


# ---- gradients and splits --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("objective", "outputs"), [("reg:squarederror", 1), ("binary:logistic", 1), ("multi:softprob", 3)]
)
def test_gradients_are_the_derivatives_of_the_loss(objective, outputs):
    dice = np.random.default_rng(0)
    margin, y = dice.normal(size=(20, outputs)), dice.integers(0, max(outputs, 2), 20).astype(np.float32)

    def loss(m):
        said = splits.probabilities(objective, m)
        if objective == "reg:squarederror":
            return 0.5 * (m[:, 0] - y) ** 2
        if objective == "binary:logistic":
            return -np.log(np.where(y == 1, said[:, 0], 1 - said[:, 0]))
        return -np.log(said[np.arange(20), y.astype(int)])

    g, h = splits.gradients(objective, margin, y)
    for output in range(outputs):
        step = np.zeros(outputs)
        step[output] = 1e-4
        up, down = loss(margin + step), loss(margin - step)
        np.testing.assert_allclose(g[:, output], (up - down) / 2e-4, atol=1e-6)
        twice = 2 if objective == "multi:softprob" else 1  # XGBoost's bound of the hessian
        np.testing.assert_allclose(h[:, output], twice * (up - 2 * loss(margin) + down) / 1e-8, atol=1e-5)


@given(st.integers(1, 5), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_histograms_of_all_rows_are_the_sums_of_those_of_any_parts(parts, seed):
    dice = np.random.default_rng(seed)
    x = np.where(dice.random((90, 2)) < 0.1, np.nan, dice.normal(size=(90, 2))).astype(np.float32)
    points = [np.float32([-0.5, 0.5]), np.float32([0])]
    slots, owner = dice.integers(-1, 2, (90, 1)), dice.integers(0, parts, 90)
    sums = [splits.whole(dice.normal(size=(90, 1)), 0) for _ in range(2)]

    def of(rows):
        return splits.histogram(x[rows], points, slots[rows], [it[rows] for it in sums], (2, 2, 4, 2))

    whole = of(slice(None))
    assert np.array_equal(whole, sum(of(owner == part) for part in range(parts)))
    for slot in range(2):
        rows = slots[:, 0] == slot
        assert whole[slot, :, :, 0].sum(axis=1).tolist() == [int(sums[0][rows].sum())] * 2
        assert whole[slot, 1, 0, 1] == sums[1][rows & (x[:, 1] < 0)].sum()
        assert whole[slot, 1, 3, 1] == sums[1][rows & np.isnan(x[:, 1])].sum()


def test_a_split_sends_missing_values_to_the_side_where_they_belong():
    unit = 1 << splits.FRACTION
    counted = np.array([[[-4, 4], [4, 4], [-2, 2]]]) * unit  # below the cut, above it, missing
    points = [np.float32([1.5])]
    found = splits.best_split(counted, points, splits.Rules())
    assert (found.feature, found.threshold, found.missing_left) == (0, 1.5, True)
    assert found.left.tolist() == [-6, 6]
    assert splits.best_split(counted, points, splits.Rules(gamma=100.0)) is None
    assert splits.best_split(counted, points, splits.Rules(min_child_weight=5.0)) is None
    assert splits.best_split(counted * [0, 1], points, splits.Rules()) is None
