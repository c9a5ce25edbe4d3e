"""Updates with 8 or 16 bits an item: what comes out at the other end, and what cannot go in."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import Refused
from convoy.model.arrays import Model
from convoy.privacy import packing
from convoy.privacy.filters import Leaving, apply
from convoy.privacy.packing import BLOCK, SCALES, SLICE, Unpacked
from convoy.spec.filters import Quantize

SEED = b"one"
RNG = np.random.default_rng(5)
BASE = {
    "w": RNG.standard_normal((70, 1000)).astype("f4"),  # more than one slice, and no whole number of blocks
    "wide": RNG.standard_normal(BLOCK + 1),
    "half": RNG.standard_normal(9).astype(ml_dtypes.bfloat16),
    "small": RNG.standard_normal(3).astype(ml_dtypes.float8_e4m3fn),
    "steps": np.array(3),
    "none": np.zeros((0, 4), "f4"),
    "one": np.array(2.5, "f4"),
}
UPDATE = {
    name: (array.astype("f8") + 0.01 * RNG.standard_normal(array.shape)).astype(array.dtype)
    for name, array in BASE.items()
} | {"steps": np.array(4)}


def back(update, base, kind, seed=SEED):
    """Return what a workflow gets of an update."""
    return Unpacked(Model(packing.pack(update, base, kind, seed)), base, kind)


def shapes_of(model):
    return Model(model).shapes


@pytest.mark.parametrize("kind", ["I8", "F16"])
def test_a_packed_update_has_the_layout_that_is_expected_of_it(kind):
    packed = packing.pack(UPDATE, BASE, kind, SEED)
    assert shapes_of(packed) == packing.shapes(shapes_of(BASE), kind)
    assert list(packed) == [*BASE, SCALES]
    assert shapes_of(packed)["half"][0] == ("I8" if kind == "I8" else "BF16")  # 16 bits already
    assert shapes_of(packed)["steps"] == ("I64", ())


@pytest.mark.parametrize(("kind", "within"), [("I8", 1 / 127), ("F16", 2**-11)])
def test_what_comes_out_is_within_a_step_of_the_largest_change(kind, within):
    out = back(UPDATE, BASE, kind)
    assert out.shapes == shapes_of(BASE)
    for name in ("w", "wide", "one", "none"):
        largest = np.abs(UPDATE[name] - BASE[name]).max(initial=0)
        rounding = np.abs(BASE[name]).max(initial=0) * np.finfo(BASE[name].dtype).eps
        assert np.abs(out[name].astype("f8") - UPDATE[name]).max(initial=0) <= largest * within * 1.01 + rounding
        assert out[name].dtype == BASE[name].dtype
        assert not out[name].flags.writeable
    np.testing.assert_array_equal(out["steps"], UPDATE["steps"])
    np.testing.assert_array_equal(out["small"], UPDATE["small"])


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50), st.booleans())
def test_what_has_not_changed_comes_out_to_the_bit(values, bits):
    kind = "I8" if bits else "F16"
    base = {"w": np.array([*values, -0.0, 0.0], "f4")}
    assert back(base, base, kind)["w"].tobytes() == base["w"].tobytes()


def test_eight_bits_are_right_on_average_and_the_same_for_one_seed():
    base = {"w": np.zeros(BLOCK, "f4")}
    update = {"w": np.full(BLOCK, 0.3, "f4")}
    update["w"][0] = 100.0  # 0.3 is between the steps 0 and 1
    out = np.mean([back(update, base, "I8", bytes([seed]))["w"] for seed in range(40)], axis=0)
    assert out[1:].mean() == pytest.approx(0.3, rel=0.05)
    assert out[0] == 100.0
    one, same, other = (packing.pack(update, base, "I8", seed)["w"] for seed in (b"1", b"1", b"2"))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_large_tensor_takes_a_quarter_and_a_half_of_its_bytes():
    base = {"w": np.zeros(4 * SLICE, "f4")}
    update = {"w": RNG.standard_normal(4 * SLICE).astype("f4")}
    whole = update["w"].nbytes
    assert sum(array.nbytes for array in packing.pack(update, base, "I8", SEED).values()) < whole * 0.252
    assert sum(array.nbytes for array in packing.pack(update, base, "F16", SEED).values()) < whole * 0.502


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_its_name(bad):
    with pytest.raises(Refused, match="tensor 'w'"):
        packing.pack({"w": np.array([1, bad], "f4")}, {"w": np.zeros(2, "f4")}, "I8", SEED)


def test_a_change_that_no_float32_can_say_is_refused():
    base, update = {"w": np.array([-3e38], "f4")}, {"w": np.array([3e38], "f4")}
    with pytest.raises(Refused, match="too far from the model"):
        packing.pack(update, base, "F16", SEED)
    with pytest.raises(Refused, match="too far from the model"):
        packing.pack({"w": np.array([1e300])}, {"w": np.array([0.0])}, "I8", SEED)


def test_a_model_with_a_tensor_of_that_name_is_refused():
    with pytest.raises(Refused, match=r"convoy\.scales"):
        packing.shapes({SCALES: ("F32", (3,))}, "I8")


@pytest.mark.parametrize("scale", [np.inf, np.nan, 3e38, -3e38])
def test_scales_of_a_malicious_site_give_values_that_a_check_finds(scale):
    packed = packing.pack({"w": np.ones(3, "f4")}, {"w": np.zeros(3, "f4")}, "I8", SEED)
    out = Unpacked(
        Model({**packed, SCALES: np.array([scale], "f4"), "w": np.full(3, -128, "i1")}), {"w": np.zeros(3, "f4")}, "I8"
    )
    assert out["w"].shape == (3,)  # finite or not, it raises nothing here


def test_an_update_that_would_not_become_smaller_leaves_as_it_is():
    base = {"w": np.zeros((30, 1)), "b": np.zeros(1)}
    update = {name: array + 1 for name, array in base.items()}
    left = apply([Quantize(8)], Leaving(update), base)
    assert left.packed == ""
    assert left.arrays is update
    large = {"w": np.zeros(1000, "f4")}
    assert apply([Quantize(8)], Leaving({"w": large["w"] + 1}), large).packed == "I8"
    assert not packing.saves({"n": ("I64", (10_000,)), "half": ("F16", (10_000,))}, "F16")
