"""What statistics may tell of a table: no cell that is told, or can be computed from what is told, has too few rows."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.privacy import cells

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=9)
VALUES = st.lists(
    st.one_of(
        st.integers(-50, 50).map(float),
        st.floats(-cells.LARGEST, cells.LARGEST),
        st.floats(0, 1, allow_nan=False),
    ),
    max_size=150,
)


def of(values, minimum):
    low, counts = np.unique(cells.floors(np.array(values, np.float64)), return_counts=True)
    return cells.parts(low, counts, minimum)


@given(COUNTS, st.integers(1, 12))
def test_a_cell_is_told_only_where_it_and_all_that_is_not_told_have_enough_rows(counts, minimum):
    counts = np.array(counts)
    told = cells.released(counts, minimum)
    assert (counts[told] >= minimum).all()
    assert counts[~told].sum() == 0 or counts[~told].sum() >= minimum or not told.any()


def test_the_smallest_cell_is_suppressed_too_where_the_total_would_give_away_another():
    assert cells.released(np.array([50, 30, 3]), 10).tolist() == [True, False, False]
    assert cells.released(np.array([50, 30, 12]), 10).tolist() == [True, True, True]
    assert cells.released(np.array([50, 6, 6]), 10).tolist() == [True, False, False]


def test_a_part_is_told_beside_its_whole_only_where_the_rest_has_no_rows_or_enough():
    assert cells.subset(np.array([100] * 4), np.array([100, 99, 90, 5]), 10).tolist() == [True, False, True, False]


@given(VALUES, st.integers(1, 12))
@settings(deadline=None)
def test_parts_hold_every_row_once_and_each_has_enough(values, minimum):
    found = of(values, minimum)
    values = np.array(values, np.float64)
    if len(values) < minimum or not len(values):
        assert len(found.low) == 0
        return
    assert (found.counts >= minimum).all()
    assert found.counts.sum() == len(values)
    assert (found.low < found.high).all()
    assert (found.high[:-1] <= found.low[1:]).all()
    counted = [((values >= low) & (values < high)).sum() for low, high in zip(found.low, found.high, strict=True)]
    assert counted == found.counts.tolist()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=200), st.integers(1, 12))
@settings(deadline=None)
def test_no_sum_or_difference_of_parts_of_a_column_and_of_its_groups_has_too_few_rows(rows, minimum):
    values, groups = np.array(rows, np.float64).T
    whole = of(values, minimum)
    counts = np.zeros((len(whole.low), 3), np.int64)
    if len(whole.low):
        np.add.at(counts, (whole.places(values), groups.astype(int)), 1)
    pieces = counts[:, counts.sum(0) > 0]
    larger, told = whole.joined(pieces, minimum)
    assert (told >= minimum).all()
    assert set(larger.low) <= set(whole.low)  # so each is a sum of whole parts
    assert set(larger.high) <= set(whole.high)
    ends = sorted({*whole.low, *whole.high})
    for low, high in itertools.combinations(ends, 2):  # any two thresholds, as two questions would choose them
        inside = ((values >= low) & (values < high)).sum()
        assert inside == 0 or inside >= minimum


def test_one_value_far_from_all_others_does_not_show_and_does_not_spoil_the_parts_of_the_others():
    ages = np.r_[np.repeat(np.arange(20.0, 90.0), 3), 117.3]
    found = of(ages, 10)
    assert len(found.low) > 10
    assert found.high[-1] == 128.0
    assert found.counts[-1] >= 10


def test_parts_follow_from_the_column_and_the_minimum_and_have_round_ends():
    found = of(np.random.default_rng(3).normal(50, 20, 2000), 10)
    assert ((found.low / 2.0**-12) % 1 == 0).all()
    assert found.counts.max() < 40


@given(st.floats(-cells.LARGEST, cells.LARGEST), st.integers(2, 20))
def test_a_cell_of_fewer_bits_holds_the_cells_of_more(value, bits):
    coarse, fine = cells.floors(np.array([value]), bits), cells.floors(np.array([value]), bits + 1)
    assert cells.floors(fine, bits) == coarse
    assert coarse <= fine <= value


def test_numbers_are_rounded_to_significant_digits_and_counts_never_below_the_minimum():
    assert cells.rounded(np.array([[1234.5, -0.0567]]), 2).tolist() == [[1200.0, -0.057]]
    assert cells.rounded_counts(np.array([1234, 22, -1]), 1, 22).tolist() == [1000, 22, -1]
    assert cells.rounded_counts(np.array([1234, 22, -1]), 0, 22).tolist() == [1234, 22, -1]
