"""Arrays by name: immutable models, and what frameworks hand over."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from convoy.errors import BadInput
from convoy.model import arrays, blob, frameworks
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


def hard_tensors():
    import torch

    yield "sparse", torch.eye(3).to_sparse(), "is not dense.*to_dense"
    yield "csr", torch.eye(3).to_sparse_csr(), "is not dense.*to_dense"
    yield "meta", torch.empty(3, device="meta"), "device 'meta', where it has no values"
    yield "complex", torch.ones(3, dtype=torch.complex64), "is complex.*view_as_real"
    yield "nested", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "is nested.*unbind"
    yield "quantized", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "is quantized.*int_repr"
    yield "lazy", torch.nn.parameter.UninitializedParameter(), "lazy module"
    yield "float8_e8m0fnu", torch.ones(3).to(torch.float8_e8m0fnu), "has the dtype float8_e8m0fnu.*convert"
    with torch._subclasses.fake_tensor.FakeTensorMode():
        yield "fake", torch.ones(3), "is a FakeTensor.*cannot travel.*plain dense"


@pytest.mark.filterwarnings("ignore")  # of torch, whose quantized and nested tensors come and go
def test_a_torch_tensor_that_cannot_travel_is_named_with_what_to_do() -> None:
    pytest.importorskip("torch")
    for name, tensor, said in hard_tensors():
        with pytest.raises(BadInput, match=f"(?s)tensor '{name}' .*{said}"):
            frameworks.to_arrays({"fine": np.ones(1), name: tensor})


def test_views_that_torch_negates_or_conjugates_late_travel() -> None:
    torch = pytest.importorskip("torch")
    assert frameworks.to_arrays([torch._neg_view(torch.ones(2))])["0"].tolist() == [-1, -1]


def test_the_order_of_a_state_dict_survives_numpy_and_torch() -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.full((1,), at) for at, name in enumerate(("z", "10", "9", "a"))} | {"n": torch.tensor(7)}
    layout = blob.build(arrays.describe(frameworks.to_arrays(state)))
    data = layout.header + b"".join(arrays.raw(frameworks.to_arrays(state)[it.name]) for it in layout.tensors)
    model = arrays.views(blob.parse(layout.header), data)
    assert list(model.torch()) == list(model.numpy()) == list(model) == list(state)
    assert {name: int(value) for name, value in model.torch().items()} == {name: int(it) for name, it in state.items()}


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
