"""The laws of the robust folds, and each of them beside what its paper says, written down again for small cases."""

from __future__ import annotations

import itertools
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from convoy.errors import BadInput, JobFailed
from convoy.model.arrays import Model
from convoy.model.fold import SLICE
from convoy.model.robust import FOLDS, RULES, distances, fold_of, needed
from convoy.model.update import Update

ROBUST = tuple(RULES)
COORDINATES = ("median", "trimmed")
DTYPES = ["f4", "f8", "f2", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, "i8", "u8", "i4", "i2", "u1", "?"]
finite = st.floats(-1e6, 1e6)
anything = st.floats(allow_nan=False, allow_infinity=False)


def folded(name, values, like=None, *, attackers=None, weights=(), order=None, **bounds):
    """Fold models (or arrays, as the tensor `w`), from sites in this order of names, added in `order`."""
    models = [value if isinstance(value, dict) else {"w": np.asarray(value)} for value in values]
    mean = fold_of(name, like or Model(models[0]), attackers=attackers, **{"max_norm_ratio": 0} | bounds)
    weights = weights or [1.0] * len(models)
    for place in range(len(models)) if order is None else order:
        mean.add(Update(f"site-{place:03}", Model(models[place]), weights[place]))
    return mean.result() if isinstance(values[0], dict) else mean.result()["w"]


def cohort(least, most, elements=finite, size=3):
    return st.lists(npst.arrays(np.float64, (size,), elements=elements), min_size=least, max_size=most)


# ---- laws ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", COORDINATES)
@given(data=st.data(), attackers=st.integers(0, 4))
def test_with_f_attackers_each_coordinate_lies_between_values_of_honest_sites(name, data, attackers):
    honest = data.draw(cohort(attackers + 1, 8))
    evil = data.draw(cohort(attackers, attackers, anything))
    order = data.draw(st.permutations(range(len(honest) + attackers)))
    mixed = [[*honest, *evil][place] for place in order]
    result = folded(name, mixed, attackers=attackers)
    assert (result >= np.min(honest, axis=0)).all()
    assert (result <= np.max(honest, axis=0)).all()


@pytest.mark.parametrize("name", ["krum", "multikrum", "bulyan", "geometric"])
@given(data=st.data(), attackers=st.integers(1, 2), size=st.sampled_from([1e3, 1e9, 1e30, 1e200, 1.7e308]))
def test_attackers_that_are_far_away_move_the_result_no_farther_than_honest_sites_differ(name, data, attackers, size):
    least = needed(name, attackers) - attackers
    honest = data.draw(cohort(least, least + 3, st.floats(-1, 1)))
    signs = data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=attackers, max_size=attackers))
    result = folded(name, [*(np.full(3, size * sign) for sign in signs), *honest], attackers=attackers)
    assert np.abs(result).max() <= 1 + 1e-9 if name != "geometric" else np.abs(result).max() <= 10


@pytest.mark.parametrize("name", ROBUST)
@given(data=st.data())
def test_the_order_of_answers_changes_no_bit(name, data):
    values = data.draw(cohort(5, 9, st.sampled_from([0.0, -0.0, 1.0, 1e300, -3.5, 0.1])))
    order = data.draw(st.permutations(range(len(values))))
    assert folded(name, values, order=order).tobytes() == folded(name, values).tobytes()


@pytest.mark.parametrize("name", COORDINATES)
@given(data=st.data())
def test_of_values_by_coordinates_the_names_of_the_sites_matter_neither(name, data):
    values = data.draw(cohort(3, 9))
    shuffled = data.draw(st.permutations(values))
    np.testing.assert_array_equal(folded(name, shuffled, attackers=1), folded(name, values, attackers=1))


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_all_have_in_common_keeps_its_bits_and_its_dtype(name, dtype):
    rng = np.random.default_rng(0)
    model = {"w": (rng.standard_normal((3, SLICE // 2 + 5)) * 50).clip(0, 100).astype(dtype), "s": np.ones((), dtype)}
    model["e"] = np.zeros((0, 2), dtype)
    result = folded(name, [model] * 4 + [model | {"s": np.zeros((), dtype)}])
    for key, array in model.items():
        assert (result[key].dtype, result[key].shape) == (array.dtype, array.shape)
        assert key == "s" or result[key].tobytes() == array.tobytes()
    assert list(result) == list(model)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@settings(max_examples=30)
@given(data=st.data())
def test_finite_values_of_any_size_have_a_finite_fold(name, kind, data):
    top = float(ml_dtypes.finfo(kind).max)
    item = st.sampled_from([top, -top, 0.0, -0.0, 1.0, top / 2, -top / 3, float(ml_dtypes.finfo(kind).tiny)])
    values = data.draw(st.lists(st.lists(item, min_size=3, max_size=3), min_size=4, max_size=9))
    values = [np.array(row).astype(kind) for row in values]
    result = folded(name, values, attackers=1 if name == "trimmed" else None).astype("f8")
    assert np.isfinite(result).all()
    stack = np.array(values).astype("f8") / 2
    near = 1e-2 * np.abs(stack).max(axis=0) + float(ml_dtypes.finfo(kind).tiny)
    assert (result / 2 >= stack.min(axis=0) - near).all()
    assert (result / 2 <= stack.max(axis=0) + near).all()


@pytest.mark.parametrize("name", ROBUST)
@given(values=cohort(5, 7), heavy=st.integers(0, 4))
def test_a_weight_above_0_has_no_say_and_one_of_0_does_not_count(name, values, heavy):
    weights = [1e308 if place == heavy else 5e-324 for place in range(len(values))]
    wanted = folded(name, values).tobytes()
    assert folded(name, values, weights=weights).tobytes() == wanted
    assert folded(name, [*values, np.full(3, 7.0)], weights=[*weights, 0.0]).tobytes() == wanted


@pytest.mark.parametrize("name", [name for name in FOLDS if needed(name) == 1])
@given(values=cohort(1, 1, anything))
def test_one_update_is_itself(name, values):
    assert folded(name, values).tobytes() == values[0].tobytes()


def test_metrics_remain_weighted_and_a_share_that_is_too_large_is_said_to_concern_them_alone():
    said = []
    mean = fold_of("median", {"w": np.zeros(1)})
    for site, value, weight in (("a", 1.0, 1.0), ("b", 2.0, 1.0), ("c", 3.0, 1e12)):
        mean.add(Update(site, Model({"w": np.full(1, value)}), weight, {"loss": value}, remark=said.append))
    assert mean.result()["w"].tolist() == [2.0]
    assert mean.metrics["loss"] == pytest.approx(0.25 * 1 + 0.25 * 2 + 0.5 * 3)
    assert len(said) == 1
    assert said[0].endswith("in the metrics alone: the fold of the arrays ignores weights")


# ---- beside the papers -----------------------------------------------------------------------------------------------
@given(cohort(1, 40))
def test_the_median_is_numpy_s(values):
    np.testing.assert_allclose(folded("median", values), np.median(values, axis=0), rtol=1e-9, atol=1e-9)


@given(cohort(1, 20), st.integers(0, 9))
def test_the_trimmed_mean_is_the_mean_of_what_is_left_and_with_f_0_that_of_all(values, attackers):
    attackers = min(attackers, (len(values) - 1) // 2)
    kept = np.sort(values, axis=0)[attackers : len(values) - attackers]
    np.testing.assert_allclose(folded("trimmed", values, attackers=attackers), kept.mean(axis=0), rtol=1e-9, atol=1e-6)
    ordinary = folded("mean", values, max_share=1)
    np.testing.assert_allclose(folded("trimmed", values, attackers=0), ordinary, rtol=1e-9, atol=1e-6)


def krum_scores(values, places, attackers):
    """Blanchard et al., section 4: s(i) is the sum over i -> j of |Vi - Vj|², j the n - f - 2 closest to i."""
    scores = {}
    for one in places:
        squares = sorted(float(((values[one] - values[j]) ** 2).sum()) for j in places if j != one)
        scores[one] = sum(squares[: max(len(places) - attackers - 2, 1)])
    return scores


def well_apart(scores):
    ordered = sorted(scores.values())
    return all(high - low > 1e-9 * (1 + high) for low, high in itertools.pairwise(ordered))


gaussians = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(gaussians, st.integers(0, 3), st.integers(0, 4))
def test_krum_chooses_what_a_search_by_its_definition_chooses(rng, attackers, more):
    values = list(rng.standard_normal((2 * attackers + 3 + more, 5)))
    scores = krum_scores(values, range(len(values)), attackers)
    ranked = sorted(scores, key=scores.get)
    if well_apart(scores):
        assert folded("krum", values, attackers=attackers).tobytes() == values[ranked[0]].tobytes()
        best = [values[place] for place in ranked[: len(values) - attackers]]
        np.testing.assert_allclose(folded("multikrum", values, attackers=attackers), np.mean(best, axis=0), rtol=1e-9)


@given(gaussians, st.integers(0, 2), st.integers(0, 4))
def test_bulyan_is_the_mean_of_the_values_nearest_to_the_median_of_those_that_krum_chose(rng, attackers, more):
    values = list(rng.standard_normal((4 * attackers + 3 + more, 5)))
    left, chosen = list(range(len(values))), []
    while len(chosen) < len(values) - 2 * attackers:
        scores = krum_scores(values, left, attackers)
        if len(left) > 2 and len(left) - attackers - 2 > 1 and not well_apart(scores):
            return
        chosen.append(min(left, key=lambda it: (round(scores[it], 9), it)))
        left.remove(chosen[-1])
    picked = np.array([values[place] for place in chosen])
    center = np.median(picked, axis=0)
    near = np.argsort(np.abs(picked - center), axis=0)[: len(values) - 4 * attackers]
    wanted = np.take_along_axis(picked, near, axis=0).mean(axis=0)
    np.testing.assert_allclose(folded("bulyan", values, attackers=attackers), wanted, rtol=1e-7, atol=1e-9)


@given(gaussians, st.integers(3, 9))
def test_no_step_away_from_the_geometric_median_makes_the_sum_of_distances_smaller_by_a_hundredth(rng, count):
    values = rng.standard_normal((count, 2))

    def total(at):
        return np.linalg.norm(values - at, axis=1).sum()

    found = folded("geometric", list(values))
    best = min(total(found + step * np.array([np.cos(a), np.sin(a)])) for step in (0.3, 0.1, 0.03) for a in range(7))
    assert total(found) <= best * 1.01


@pytest.mark.parametrize("dtype", ["f4", "f8", ml_dtypes.bfloat16])
def test_distances_are_those_of_floats_alone_over_all_slices(dtype):
    rng = np.random.default_rng(1)
    models = [{"w": rng.standard_normal(2 * SLICE + 7).astype(dtype), "n": np.full(9, place)} for place in range(3)]
    found = distances(models, ["w", "n"])
    for one, other in itertools.permutations(range(3), 2):
        wanted = np.linalg.norm(models[one]["w"].astype("f8") - models[other]["w"].astype("f8"))
        assert found[one][other] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("size", [1e-300, 1e-40, 1e-25, 1.0, 1e25, 1e160, 1e300])
def test_distances_of_any_size_are_told_apart(size):
    dtype = "f4" if 1e-40 <= size <= 1e30 else "f8"
    near, here, far = ({"w": np.array([1.0, 0], dtype) * np.array(size, dtype) * scale} for scale in (1, 0, -5))
    found = distances([near, here, far], ["w"])
    assert found[0][2] == pytest.approx(6 * size, rel=1e-3)
    assert found[0][1] == pytest.approx(size, rel=1e-3)


def test_integers_are_rounded_and_truth_is_the_majority_s():
    models = [
        {"n": np.array([n, 2**62 + n]), "u": np.array([u], "u1"), "t": np.array([t])}
        for n, u, t in ((1, 250, True), (4, 255, False), (2, 0, True), (9, 254, False))
    ]
    result = folded("median", models)
    assert result["n"].tolist() == [3, 2**62 + 3]
    assert result["u"].tolist() == [252]
    assert result["t"].tolist() == [False]
    assert folded("trimmed", models, attackers=1)["n"].tolist() == [3, 2**62 + 3]


# ---- conditions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("attackers", [0, 1, 2])
def test_with_one_answer_too_few_the_round_fails_and_the_error_has_n_f_and_the_condition(name, attackers):
    least = needed(name, attackers)
    values = [np.full(2, float(place)) for place in range(least)]
    folded(name, values, attackers=attackers)
    if least > 1:
        with pytest.raises(JobFailed, match=rf"{name} cannot fold {least - 1} answers") as raised:
            folded(name, values[1:], attackers=attackers)
        assert f"n = {least - 1} answers count, f = {attackers}, so n must be {least} or more" in raised.value.why


def test_an_answer_that_is_left_out_is_not_among_the_n():
    values = [np.full(2, 1.0 + place) for place in range(6)]
    with pytest.raises(JobFailed, match="krum cannot fold 6 answers of which 2 may be malicious"):
        folded("krum", [*values, np.full(2, 1e9)], attackers=2, max_norm_ratio=10)
    with pytest.raises(JobFailed, match="krum cannot fold 6 answers"):
        folded("krum", [*values, np.full(2, np.nan)], attackers=2)
    folded("krum", [*values, np.full(2, 1e9)], attackers=2)


def test_what_no_site_changed_is_the_model_s_own_array_and_an_unknown_fold_is_named():
    from tests.model.test_mean import as_blob

    base = as_blob({"frozen": np.full(4, -0.0, "f4"), "head": np.zeros(2, "f4")})
    mean = fold_of("median", base)
    for place in range(3):
        mean.add(Update(f"s{place}", as_blob({"frozen": base["frozen"], "head": np.full(2, place, "f4")})))
    result = mean.result()
    assert result["frozen"] is base["frozen"]
    assert result["head"].tolist() == [1, 1]
    with pytest.raises(BadInput, match="no fold 'modus'"):
        fold_of("modus", base)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("dtype", ["f4", ml_dtypes.bfloat16, "u1"])
def test_it_takes_the_memory_of_one_model_and_a_few_slices_however_many_updates_there_are(name, dtype):
    size = (4 << 20) // np.dtype(dtype).itemsize
    rng = np.random.default_rng(0)
    models = [{"w": rng.integers(0, 9, size).astype(dtype)} for _ in range(12)]
    tracemalloc.start()
    try:
        folded(name, models, attackers=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (4 << 20) + (10 << 20)
