"""Filters: what a site does to every update before it leaves."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import Refused
from convoy.model import arrays, schema
from convoy.privacy.filters import Leaving
from convoy.privacy.filters import apply as applied
from convoy.spec.filters import Clip, Exclude, Noise, for_kind

RNG = np.random.default_rng(3)
BASE = {
    "body.w": RNG.standard_normal((300, 300)).astype("f4"),
    "head.w": RNG.standard_normal(50),
    "half": RNG.standard_normal(9).astype(ml_dtypes.bfloat16),
    "steps": np.array(3),
}
UPDATE = {name: (array + 1).astype(array.dtype) for name, array in BASE.items()}


def apply(filters, update, base, **options):
    """Return the arrays that leave."""
    return applied(filters, Leaving(update), base, **options).arrays


def test_a_policy_without_filters_changes_nothing() -> None:
    answer = Leaving(UPDATE, 3.0, {"auc": 1.0})
    assert applied([], answer, BASE) is answer
    assert applied([Exclude(("body.*",))], answer, BASE).metrics == {"auc": 1.0}


def test_excluded_tensors_leave_with_the_base_s_values() -> None:
    out = apply([Exclude(("head.*", "steps"))], UPDATE, BASE)
    for name, source in (("head.w", BASE), ("steps", BASE), ("body.w", UPDATE), ("half", UPDATE)):
        np.testing.assert_array_equal(out[name], source[name])


@given(st.floats(1e-3, 1e4))
def test_a_clipped_update_is_never_farther_away_than_the_norm_and_keeps_its_direction(norm: float) -> None:
    base, update = ({name: model[name] for name in ("body.w", "head.w")} for model in (BASE, UPDATE))
    out = apply([Clip(norm)], update, base)
    apart = schema.distance(update, base)
    assert schema.distance(out, base) == pytest.approx(min(norm, apart), rel=1e-2)
    factor = min(1.0, norm / apart)
    np.testing.assert_allclose(out["head.w"] - base["head.w"], factor * np.ones(50), rtol=1e-6)


def test_an_update_within_the_norm_passes_bit_for_bit() -> None:
    out = apply([Clip(1e6)], UPDATE, BASE)
    assert all(out[name] is UPDATE[name] for name in UPDATE if name != "steps")


@pytest.mark.parametrize("policy", [Clip(1e6), Clip(1.0), Noise(0.1)])
def test_integers_and_truth_values_leave_with_the_model_s_values_where_floats_are_held_back(policy) -> None:
    base = BASE | {"flag": np.array([True]), "small": np.array([1, 2], np.uint8)}
    update = UPDATE | {"flag": np.array([False]), "small": np.array([8, 9], np.uint8)}
    out = apply([policy], update, base)
    assert list(out) == list(update)
    for name in ("steps", "flag", "small"):
        np.testing.assert_array_equal(out[name], base[name])
    with pytest.raises(Refused, match="works on floats, and the model has none"):
        apply([policy], {"n": np.array(2)}, {"n": np.array(1)})


def test_noise_has_its_sigma_and_is_new_each_time() -> None:
    filters = [Noise(0.25)]
    one, two = apply(filters, UPDATE, BASE), apply(filters, UPDATE, BASE)
    added = one["body.w"] - UPDATE["body.w"]
    assert abs(added.mean()) < 0.01
    assert added.std() == pytest.approx(0.25, rel=0.02)
    assert not np.array_equal(one["body.w"], two["body.w"])


def test_noise_of_one_seed_is_the_same_bits_and_differs_between_two_filters() -> None:
    policy = [Noise(0.25), Noise(0.25)]
    one, two = (apply(policy, UPDATE, BASE, seed=b"task 1") for _ in range(2))
    other = apply(policy, UPDATE, BASE, seed=b"task 2")
    assert all(one[name].tobytes() == two[name].tobytes() for name in UPDATE)
    assert not np.array_equal(one["body.w"], other["body.w"])
    once = apply(policy[:1], UPDATE, BASE, seed=b"task 1")["head.w"]
    assert not np.allclose(one["head.w"] - once, once - UPDATE["head.w"])


def test_every_filter_keeps_names_shapes_and_dtypes_and_leaves_its_input_alone() -> None:
    before = {name: array.copy() for name, array in UPDATE.items()}
    policy = [Exclude(("head.*",)), Clip(1.0), Noise(0.1)]
    out = apply(policy, UPDATE, BASE)
    assert arrays.shapes(out) == arrays.shapes(UPDATE)
    assert all(np.array_equal(UPDATE[name], before[name]) for name in UPDATE)


@pytest.mark.parametrize("one", [Exclude(("counts",)), Clip(1.0), Noise(1.0)])
def test_arrays_that_are_not_shaped_like_the_model_pass_no_filter_that_needs_one(one) -> None:
    counts = {"counts": np.ones(3)}
    with pytest.raises(Refused, match=f"the filter '{type(one).__name__.lower()}' .* works on what a model has become"):
        apply([one], counts, None)
    assert apply([], counts, None) is counts
    assert apply([one], {}, None) == {}  # metrics alone


def test_a_filter_is_for_the_kinds_that_it_names() -> None:
    filters = (Clip(1.0, ("train",)), Noise(1.0), Exclude(("w",), ("probe", "train")))
    assert for_kind(filters, "train") == filters
    assert for_kind(filters, "probe") == filters[1:]
    assert for_kind(filters, "histogram") == filters[1:2]
