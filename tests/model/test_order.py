"""Sorting networks, against numpy's sort."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.model.fold import SLICE
from convoy.model.order import NARROWEST, NETWORK, STACK, Sorter, network, slices


@given(st.integers(1, NETWORK + 6), st.data())
def test_every_place_holds_what_numpy_s_sort_puts_there(count, data):
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first + 1, count))
    rows = np.random.default_rng(count).integers(0, 20, (count, 33)).astype("f4")
    np.testing.assert_array_equal(Sorter(count, first, last).sort(rows), np.sort(rows, axis=0)[first:last])


def test_a_network_for_one_place_is_smaller_than_one_for_all_and_a_known_one_has_its_known_size():
    assert len(network(8, range(8))) == 19
    assert sum(low + high for _, _, low, high in network(9, [4])) < sum(sum(it[2:]) for it in network(9, range(9)))


@pytest.mark.parametrize("kind", ["?", "u1", "i8", "f2", "f8", ml_dtypes.bfloat16])
def test_each_dtype_sorts_in_its_own_order_and_narrow_floats_come_back_wider(kind):
    rows = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0]]).astype(kind)
    found = Sorter(3, 0, 3).sort(rows)
    assert found[0].dtype == (np.float32 if rows.dtype.itemsize == 2 else rows.dtype)
    np.testing.assert_array_equal(np.array(found).astype("f8"), np.sort(rows.astype("f8"), axis=0))


@pytest.mark.parametrize("count", [1, 3, 100, 10_000])
def test_slices_cover_an_array_and_all_updates_together_have_no_more_than_a_stack(count):
    found = list(slices(300_000, count))
    assert [place for part in found for place in range(300_000)[part]] == list(range(300_000))
    assert found[0].stop <= max(min(SLICE, STACK // count), NARROWEST)
