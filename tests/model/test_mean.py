"""The mean's algebra."""

from __future__ import annotations

import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from convoy.errors import BadInput, Refused
from convoy.model.arrays import Model
from convoy.model.mean import SLICE, Mean
from convoy.model.update import Update

weights = st.floats(0.001, 1e6)
values = npst.arrays(np.float64, (3,), elements=st.floats(-1e6, 1e6))
cohorts = st.lists(st.tuples(values, weights), min_size=1, max_size=6)


def mean_of(cohort, like=None) -> Mean:
    cohort = [({"w": value}, weight) for value, weight in cohort] if like is None else cohort
    mean = Mean(like=like or Model(cohort[0][0]))
    for place, (model, weight) in enumerate(cohort):
        mean.add(Update(f"site-{place}", Model(model), weight))
    return mean


@given(cohorts)
def test_the_mean_is_numpy_s_weighted_average(cohort) -> None:
    wanted = np.average([value for value, _ in cohort], axis=0, weights=[weight for _, weight in cohort])
    np.testing.assert_allclose(mean_of(cohort).result()["w"], wanted, rtol=1e-9, atol=1e-6)


@given(cohorts)
def test_the_same_updates_in_the_same_order_give_the_same_bits(cohort) -> None:
    assert mean_of(cohort).result()["w"].tobytes() == mean_of(cohort).result()["w"].tobytes()


@given(cohorts, st.sampled_from([2.0, 0.5, 1024.0]))
def test_only_the_proportion_of_the_weights_matters(cohort, factor: float) -> None:
    scaled = [(value, weight * factor) for value, weight in cohort]
    np.testing.assert_allclose(mean_of(scaled).result()["w"], mean_of(cohort).result()["w"], rtol=1e-12, atol=1e-300)


@given(cohorts)
def test_the_mean_lies_between_the_smallest_and_the_largest(cohort) -> None:
    stack = np.array([value for value, _ in cohort])
    result = mean_of(cohort).result()["w"]
    slack = 1e-9 * (1 + np.abs(stack).max())
    assert (result >= stack.min(axis=0) - slack).all()
    assert (result <= stack.max(axis=0) + slack).all()


@given(cohorts, values)
def test_an_update_of_weight_zero_says_nothing(cohort, value) -> None:
    with_it = [*cohort[:1], (value, 0.0), *cohort[1:]]
    np.testing.assert_array_equal(mean_of(with_it).result()["w"], mean_of(cohort).result()["w"])


@pytest.mark.parametrize(
    "dtype", ["f4", "f8", "f2", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, "i8", "u8", "i4", "i1", "u1", "?"]
)
def test_every_dtype_comes_back_as_itself_and_a_mean_of_equals_is_equal(dtype) -> None:
    rng = np.random.default_rng(0)
    model = {"w": (rng.standard_normal((3, SLICE // 2 + 5)) * 50).clip(0, 100).astype(dtype), "s": np.ones((), dtype)}
    model["e"] = np.zeros((0, 2), dtype)
    result = mean_of([(model, 1.0), (model, 3.0), (model, 4.0)], like=Model(model)).result()
    for name, array in model.items():
        assert (result[name].dtype, result[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(result[name], array)


def test_integers_are_rounded_truth_is_the_majority_s_and_half_floats_are_summed_wider() -> None:
    one = {"n": np.array([1, 2**40]), "t": np.array([True, True]), "h": np.full(2, 60_000, np.float16)}
    two = {"n": np.array([4, 2**40 + 4]), "t": np.array([False, True]), "h": np.full(2, 50_048, np.float16)}
    result = mean_of([(one, 1.0), (two, 2.0)], like=Model(one)).result()
    assert result["n"].tolist() == [3, 2**40 + 3]
    assert result["t"].tolist() == [False, True]
    assert result["h"].tolist() == [53_376.0] * 2


def test_extreme_integers_do_not_wrap() -> None:
    for kind in (np.int64, np.uint64, np.int8):
        limits = np.iinfo(kind)
        model = {"n": np.array([limits.min, limits.max], kind)}
        low, high = mean_of([(model, 3.0)], like=Model(model)).result()["n"].tolist()
        assert low == limits.min
        assert high >= limits.max - 2048


def test_metrics_are_weighted_means_over_the_sites_that_gave_them() -> None:
    mean = Mean(like=Model({}))
    mean.add(Update("a", Model({}), 1, {"loss": 1.0, "auc": 0.5}))
    mean.add(Update("b", Model({}), 3, {"loss": 2.0}))
    mean.add(Update("c", Model({}), 9, {"loss": float("nan")}))
    assert mean.metrics == {"auc": 0.5, "loss": 1.75}
    assert (mean.weight, len(mean)) == (13, 3)
    assert mean.result() == {}


@pytest.mark.parametrize("model", [{}, {"w": np.ones(2)}, {"w": np.ones(3, "f4")}, {"w": np.ones(3), "x": np.ones(1)}])
def test_an_update_of_another_shape_is_refused(model) -> None:
    with pytest.raises(Refused):
        Mean(like={"w": np.ones(3)}).add(Update("a", Model(model)))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(BadInput, match="weight"):
        Mean(like={}).add(Update("a", Model({}), weight))


def test_there_is_no_mean_of_nothing_and_none_after_the_result() -> None:
    like = Model({"w": np.ones(3)})
    with pytest.raises(BadInput, match="no mean"):
        Mean(like=like).result()
    mean = mean_of([(np.ones(3), 1.0)])
    mean.result()
    with pytest.raises(BadInput, match="has given"):
        mean.add(Update("a", like))
    with pytest.raises(BadInput, match="has given"):
        mean.result()


def test_it_takes_the_memory_of_one_model_however_many_updates_there_are() -> None:
    model = Model({"w": np.ones(4_000_000, np.float32), "v": np.ones(1_000_000, np.float32)})
    tracemalloc.start()
    try:
        mean = mean_of([(model, 1.0)] * 4, like=model)
        result = mean.result()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(array.nbytes for array in result.values()) == model.nbytes
    assert peak < model.nbytes + (2 << 20)
