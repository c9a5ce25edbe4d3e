"""What people hand over as a model, and is none: it is refused with what to hand over instead."""

import numpy as np
import pytest

from convoy.errors import BadInput
from convoy.model import frameworks


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"w": [0.0, 1.0]}, "make an array of it: numpy.asarray(w)"),
        ({"a.w": ((1, 2), (3, 4))}, "use numpy.asarray()"),
        ([[0.0, 1.0], [2.0]], "'0' is a list, not an array\nuse numpy.asarray()"),
        ({"layers": [np.zeros(2), np.zeros(3)]}, "each of its items with a name of its own, such as 'layers.0'"),
        ({"enc": {"w": np.zeros(2)}}, "hand over one flat mapping, with names such as 'enc.w'"),
        ({"w": "abc"}, "'w' is a str, not an array\nleave it out"),
        ({"n": 2**70}, "an integer of 71 bits and cannot travel\nwanted one from -2^63 to 2^64 - 1"),
        ({"w": np.array([1, [2]], object)}, "an array of numbers for each part of it"),
        ({"w": np.zeros(2, [("a", "f4"), ("b", "i4")])}, "each of its fields"),
        ({"w": np.array(["a"])}, "convert it with .astype() first"),
        ((name for name in "ab"), "a generator is not arrays"),
        ({"w": np.zeros(2)}.values(), "a dict_values is not arrays"),
        (None, "None is not arrays"),
    ],
)
def test_what_is_no_array_is_refused_with_what_to_hand_over_instead(given, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        frameworks.to_arrays(given)
    assert said in str(refused.value)


def test_a_sparse_matrix_of_scipy_is_to_be_made_dense() -> None:
    scipy = pytest.importorskip("scipy.sparse")
    with pytest.raises(BadInput, match="toarray"):
        frameworks.to_arrays({"w": scipy.eye(2).tocsr()})


def test_keys_that_are_the_same_text_are_refused_and_none_is_lost() -> None:
    with pytest.raises(BadInput, match="two tensors are called '1'") as refused:
        frameworks.to_arrays({1: np.zeros(2), "1": np.ones(2)})
    assert "the keys 1 and '1' are the same text" in str(refused.value)
    assert list(frameworks.to_arrays({1: np.zeros(2), 0: np.ones(2)})) == ["1", "0"]


def test_masked_values_are_refused_and_do_not_come_out_from_behind_their_mask() -> None:
    with pytest.raises(BadInput, match="masked"):
        frameworks.to_arrays({"w": np.ma.masked_array([1.0, 2.0], [False, True])})
    assert frameworks.to_arrays({"w": np.ma.masked_array([1.0, 2.0])})["w"].tolist() == [1, 2]
