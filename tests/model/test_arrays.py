"""Arrays by name: immutable models, and what frameworks hand over."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from convoy.errors import BadInput
from convoy.model import arrays, frameworks
from convoy.model.arrays import Model


def test_a_model_cannot_be_written_to_but_its_copy_can() -> None:
    model = Model({"w": np.ones(3)})
    with pytest.raises(ValueError, match="read-only"):
        model["w"][0] = 2
    copy = model.numpy()
    copy["w"][0] = 2
    assert model["w"][0] == 1
    assert model.nbytes == 24
    assert model == model
    assert model != Model({"w": np.ones(3)})
    assert repr(model) == "<Model of 1 tensors, 24 bytes>"


def test_arrays_in_another_order_or_byte_order_are_packed() -> None:
    turned = np.arange(6, dtype=">f4").reshape(2, 3).T
    packed = arrays.packed(turned)
    assert packed.flags.c_contiguous
    assert packed.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(packed, turned)
    assert arrays.packed(packed) is packed


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([object()]), np.ones(2, complex)])
def test_a_dtype_that_no_blob_has_is_refused(array: np.ndarray) -> None:
    with pytest.raises(BadInput, match="'w' has the dtype"):
        arrays.describe({"w": array})


@pytest.mark.parametrize("name", ["__metadata__", 3])
def test_a_name_that_no_blob_has_is_refused(name) -> None:
    with pytest.raises(BadInput, match="cannot be called"):
        arrays.describe({name: np.ones(1)})


def test_mappings_lists_and_single_arrays_become_arrays_by_name() -> None:
    one, two = np.ones(2), np.zeros(3)
    assert list(frameworks.to_arrays({"a": one, "b": 3.5})) == ["a", "b"]
    assert frameworks.to_arrays({"a": one})["a"] is one
    assert list(frameworks.to_arrays([one, two])) == ["0", "1"]
    assert frameworks.to_arrays(two)["0"] is two
    assert frameworks.to_arrays({"a": one.astype(ml_dtypes.bfloat16)})["a"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("value", ["text", None, object(), np.array(["a"]), b"x"])
def test_what_is_no_array_is_refused_by_name(value) -> None:
    with pytest.raises(BadInput, match="'w'"):
        frameworks.to_arrays({"w": value})


def test_torch_state_dicts_come_in_and_go_out_bit_for_bit() -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state = {**net.state_dict(), "half": torch.ones(2, dtype=torch.bfloat16), "turned": torch.ones(2, 3).T}
    out = frameworks.to_arrays(state)
    assert out["1.num_batches_tracked"].dtype == np.int64
    assert out["half"].dtype == ml_dtypes.bfloat16
    back = Model({name: arrays.packed(array) for name, array in out.items()}).torch()
    assert all(torch.equal(back[name], state[name]) and back[name].dtype == state[name].dtype for name in state)
    assert list(frameworks.to_arrays(net)) == list(net.state_dict())
