"""Clipping to a median norm: its laws, for every fold, and its memory."""

from __future__ import annotations

import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from convoy.model.arrays import Model
from convoy.model.clipped import Clipped
from convoy.model.robust import FOLDS, fold_of
from convoy.model.update import Update

values = npst.arrays(np.float64, (3,), elements=st.floats(-1e6, 1e6))
cohorts = st.lists(values, min_size=7, max_size=12)
LIKE = {"w": np.array([1.0, -2.0, 0.5])}


def folded(fold, models, like=LIKE, *, order=None, weights=None, **bounds):
    mean = fold_of(fold, Model(like), **{"max_norm_ratio": 0, "max_share": 1} | bounds)
    for place in range(len(models)) if order is None else order:
        weight = 1.0 if weights is None else weights[place]
        mean.add(Update(f"site-{place:02}", Model(models[place]), weight))
    return mean.result()


@pytest.mark.parametrize("fold", FOLDS)
@given(cohort=cohorts)
def test_a_bound_that_nobody_exceeds_is_the_fold_to_the_bit(fold, cohort):
    models = [{"w": value} for value in cohort]
    options = {"attackers": 1} if fold == "trimmed" else {}
    plain = folded(fold, models, **options)
    for clip in (math.inf, 1e300):
        assert folded(fold, models, clip=clip, **options)["w"].tobytes() == plain["w"].tobytes()


@given(cohort=cohorts, data=st.data(), clip=st.floats(0.1, 3))
def test_clipping_commutes_with_the_order_of_the_sites(cohort, data, clip):
    models, order = [{"w": value} for value in cohort], data.draw(st.permutations(range(len(cohort))))
    assert (
        folded("median", models, clip=clip, order=order)["w"].tobytes()
        == folded("median", models, clip=clip)["w"].tobytes()
    )
    np.testing.assert_allclose(
        folded("mean", models, clip=clip, order=order)["w"],
        folded("mean", models, clip=clip)["w"],
        rtol=1e-9,
        atol=1e-6,
    )


@given(cohort=cohorts, clip=st.floats(0.1, 3))
def test_the_mean_is_that_of_updates_shortened_by_hand(cohort, clip):
    apart = [float(np.linalg.norm(value - LIKE["w"])) for value in cohort]
    moved = sorted(it for it in apart if it > 0)
    if len(moved) < 3:
        return
    bound = clip * moved[(len(moved) - 1) // 2]
    short = [
        LIKE["w"] + (value - LIKE["w"]) * (min(1, bound / it) if it else 1)
        for value, it in zip(cohort, apart, strict=True)
    ]
    result = folded("mean", [{"w": value} for value in cohort], clip=clip)["w"]
    np.testing.assert_allclose(result, np.mean(short, axis=0), rtol=1e-9, atol=1e-6)
    assert np.linalg.norm(result - LIKE["w"]) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("far", [1e3, 1e30, 1e200, 1.7e308])
def test_an_update_of_any_length_moves_the_mean_no_farther_than_the_median_one(far):
    honest = [{"w": LIKE["w"] + [1.0, 0, 0]} for _ in range(4)]
    result = folded("mean", [*honest, {"w": np.full(3, far)}], clip=1.0)["w"] - LIKE["w"]
    assert np.linalg.norm(result) <= 1 + 1e-9
    assert np.linalg.norm(result - [1, 0, 0]) <= 2 / 5 + 1e-9


def test_of_two_answers_none_is_clipped_and_integers_never_are():
    like = {"w": np.zeros(1), "n": np.zeros(1, np.int64)}
    models = [{"w": np.full(1, size), "n": np.full(1, int(size))} for size in (1.0, 9.0, 1.0)]
    assert folded("mean", models[:2], like, clip=1.0)["w"][0] == 5.0
    result = folded("mean", models, like, clip=1.0)
    assert result["w"][0] == pytest.approx(1.0)
    assert result["n"][0] == 4  # the mean of 1, 9 and 1, rounded


@pytest.mark.parametrize("dtype", ["f4", "f2", "f8", ml_dtypes.bfloat16])
def test_every_dtype_comes_back_as_itself_within_its_precision(dtype):
    like = {"w": np.zeros(70_000, dtype)}
    models = [{"w": np.full(70_000, size).astype(dtype)} for size in (1.0, 2.0, 4.0)]
    result = folded("mean", models, like, clip=1.0)["w"]
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_allclose(result.astype(float), 5 / 3, rtol=1e-2)


def test_a_tensor_with_the_bits_of_the_model_is_not_shortened():
    from tests.model.test_mean import as_blob

    base = as_blob({"frozen": np.full(2, -0.0), "head": np.zeros(2)})
    update = as_blob({"frozen": np.full(2, -0.0), "head": np.ones(2)})
    assert Clipped(update, base, 0.5)["frozen"].tobytes() == base["frozen"].tobytes()
    assert Clipped(update, base, 0.5)["head"][0:2].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("fold", "count"), [("mean", 64), ("median", 64), ("krum", 6), ("geometric", 12)])
def test_it_takes_the_memory_of_one_model_and_a_few_slices_however_many_are_clipped(fold, count):
    size = 1 << 18
    models = [{"w": np.full(size, place + 1, np.float32)} for place in range(count)]
    like = {"w": np.zeros(size, np.float32)}
    tracemalloc.start()
    try:
        folded(fold, models, like, clip=0.01)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (1 << 20) + (10 << 20)
