"""The mean's algebra, and what one update of a round can do to it."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from convoy.errors import BadInput, Refused
from convoy.model import arrays, blob
from convoy.model.arrays import Model
from convoy.model.fold import BLOCK, SLICE
from convoy.model.mean import Mean
from convoy.model.update import Update

DTYPES = ["f4", "f8", "f2", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, "i8", "u8", "i4", "u4", "i2", "i1", "u1", "?"]
weights = st.floats(0.001, 1e6)
any_weight = st.floats(min_value=5e-324, allow_infinity=False)
values = npst.arrays(np.float64, (3,), elements=st.floats(-1e6, 1e6))
cohorts = st.lists(st.tuples(values, weights), min_size=1, max_size=40)
UNBOUNDED = {"max_share": 1, "max_norm_ratio": 0}


def mean_of(cohort, like=None, **bounds) -> Mean:
    cohort = [({"w": value}, weight) for value, weight in cohort] if like is None else cohort
    mean = Mean(like=like or Model(cohort[0][0]), **UNBOUNDED | bounds)
    for place, (model, weight) in enumerate(cohort):
        mean.add(Update(f"site-{place}", Model(model), weight))
    return mean


def as_blob(model) -> Model:
    """Return the model as it comes out of a blob, with the digest of each tensor."""
    layout = blob.build(arrays.describe(model))
    return arrays.views(layout, layout.header + b"".join(arrays.raw(model[it.name]) for it in layout.tensors))


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
    assert mean_of(scaled).result()["w"].tobytes() == mean_of(cohort).result()["w"].tobytes()


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


def test_blocks_of_updates_are_merged_in_order() -> None:
    """Whoever knows the mean and the weight of each block gets the same bits without its updates."""
    rng = np.random.default_rng(0)
    cohort = [(rng.standard_normal(5), float(weight)) for weight in rng.uniform(0.5, 1, 2 * BLOCK)]
    one, two = cohort[:BLOCK], cohort[BLOCK:]
    parts = [(mean_of(part).result()["w"], sum(weight for _, weight in part)) for part in (one, two)]
    assert mean_of(parts).result()["w"].tobytes() == mean_of(cohort).result()["w"].tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_as_itself_and_a_mean_of_equals_is_equal_to_the_bit(dtype) -> None:
    rng = np.random.default_rng(0)
    model = {"w": (rng.standard_normal((3, SLICE // 2 + 5)) * 50).clip(0, 100).astype(dtype), "s": np.ones((), dtype)}
    model["e"] = np.zeros((0, 2), dtype)
    result = mean_of([(model, 3.0), (model, 7.0), (model, 0.1)], like=Model(model)).result()
    for name, array in model.items():
        assert (result[name].dtype, result[name].shape) == (array.dtype, array.shape)
        assert result[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@given(data=st.data())
def test_finite_values_of_any_size_and_weights_of_any_size_have_a_finite_mean(kind, data) -> None:
    top = float(ml_dtypes.finfo(kind).max)
    item = st.sampled_from([top, -top, 0.0, -0.0, 1.0, top / 2, -top / 3, float(ml_dtypes.finfo(kind).tiny)])
    cohort = [
        ({"w": np.array(row).astype(kind)}, weight)
        for row, weight in data.draw(
            st.lists(st.tuples(st.lists(item, min_size=3, max_size=3), any_weight), min_size=1, max_size=20)
        )
    ]
    result = mean_of(cohort, like=Model(cohort[0][0])).result()["w"]
    stack = np.array([model["w"] for model, _ in cohort]).astype(np.float64) / 2  # room for the slack
    wide = result.astype(np.float64) / 2
    assert np.isfinite(wide).all()
    near = 1e-2 * np.maximum(np.abs(stack).max(axis=0), float(ml_dtypes.finfo(kind).tiny))
    assert (wide >= stack.min(axis=0) - near).all()
    assert (wide <= stack.max(axis=0) + near).all()


@given(values, st.lists(any_weight, min_size=1, max_size=20))
def test_equal_values_beside_others_keep_their_bits(value, given_weights) -> None:
    cohort = [(np.append(value, float(place)), weight) for place, weight in enumerate(given_weights)]
    result = mean_of(cohort).result()["w"]
    np.testing.assert_array_equal(result[:3], value)


def test_a_mask_of_the_smallest_number_survives_a_round() -> None:
    for kind in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
        low = ml_dtypes.finfo(kind).min
        one = {"m": np.array([low, 0, low]).astype(kind), "n": np.array([low, 1]).astype(kind)}
        two = {"m": one["m"], "n": np.array([low, 2]).astype(kind)}
        result = mean_of([(one, 400.0), (two, 400.0)], like=Model(one)).result()
        assert result["m"].tobytes() == one["m"].tobytes()
        assert result["n"][0] == low


def test_a_tensor_that_nobody_changed_is_the_model_s_own_array() -> None:
    base = as_blob({"frozen": np.full(4, -0.0, "f4"), "head": np.zeros(2, "f4")})
    mean = Mean(like=base)
    for place in range(2):
        mean.add(
            Update(f"site-{place}", as_blob({"frozen": base["frozen"], "head": np.full(2, place, "f4")}), 3 + place)
        )
    result = mean.result()
    assert result["frozen"] is base["frozen"]
    assert result["head"].tolist() == pytest.approx([4 / 7] * 2)


def test_integers_are_rounded_truth_is_the_majority_s_and_half_floats_are_summed_wider() -> None:
    one = {"n": np.array([1, 2**40]), "t": np.array([True, True]), "h": np.full(2, 60_000, np.float16)}
    two = {"n": np.array([4, 2**40 + 4]), "t": np.array([False, True]), "h": np.full(2, 50_048, np.float16)}
    result = mean_of([(one, 1.0), (two, 2.0)], like=Model(one)).result()
    assert result["n"].tolist() == [3, 2**40 + 3]
    assert result["t"].tolist() == [False, True]
    assert result["h"].tolist() == [53_376.0] * 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_half_of_the_votes_is_no_majority_in_any_order(order) -> None:
    cohort = [({"t": np.array([True])}, 3.0), ({"t": np.array([False])}, 1.0), ({"t": np.array([False])}, 2.0)]
    cohort = [cohort[place] for place in order]
    assert mean_of(cohort, like=Model(cohort[0][0])).result()["t"].tolist() == [False]


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.int32, np.uint32, np.int16, np.int8, np.uint8])
@given(data=st.data())
def test_the_mean_of_integers_is_the_exact_one_rounded(kind, data) -> None:
    limits = np.iinfo(kind)
    near = st.integers(0, 3).map(lambda n: limits.max - n)
    item = st.one_of(st.integers(int(limits.min), int(limits.max)), near, st.sampled_from([int(limits.min), 0]))
    cohort = data.draw(st.lists(st.tuples(item, st.integers(1, 1000)), min_size=1, max_size=6))
    models = [({"n": np.array([value], kind)}, float(weight)) for value, weight in cohort]
    (result,) = mean_of(models, like=Model(models[0][0])).result()["n"].tolist()
    exact = Fraction(sum(value * weight for value, weight in cohort), sum(weight for _, weight in cohort))
    assert abs(result - exact) <= Fraction(502, 1000)


def test_an_integer_above_2_to_the_53_that_one_site_alone_changes_is_not_rounded() -> None:
    one, two = {"n": np.array([2**53 + 1, 6364136223846793005])}, {"n": np.array([2**53 + 1, 6364136223846793007])}
    result = mean_of([(one, 100.0), (two, 100.0)], like=Model(one)).result()["n"]
    assert result.tolist() == [2**53 + 1, 6364136223846793006]


def test_metrics_are_weighted_means_over_the_sites_that_gave_them() -> None:
    mean = Mean(like=Model({}), max_share=1)
    mean.add(Update("a", Model({}), 1, {"loss": 1.0, "auc": 0.5}))
    mean.add(Update("b", Model({}), 3, {"loss": 2.0}))
    mean.add(Update("c", Model({}), 9, {"loss": float("nan")}))
    assert mean.metrics == {"auc": 0.5, "loss": 1.75}
    assert (mean.weight, len(mean)) == (13, 3)
    assert mean.result() == {}


def test_metrics_of_any_size_have_a_finite_mean() -> None:
    mean = Mean(like={})
    for site, weight, value in (("a", 1e300, 1e308), ("b", 1e300, -1e308), ("c", 5e-324, 1.0)):
        mean.add_metrics(Update(site, Model({}), weight, {"loss": value}))
    assert mean.metrics == {"loss": 0.0}


@pytest.mark.parametrize("model", [{}, {"w": np.ones(2)}, {"w": np.ones(3, "f4")}, {"w": np.ones(3), "x": np.ones(1)}])
def test_an_update_of_another_shape_is_refused(model) -> None:
    with pytest.raises(Refused):
        Mean(like={"w": np.ones(3)}).add(Update("a", Model(model)))


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


@pytest.mark.parametrize("dtype", ["f4", "f2", "f8", ml_dtypes.bfloat16, "u1", "i4", "i8", "?"])
def test_it_takes_the_memory_of_one_model_of_any_dtype_however_many_updates_there_are(dtype) -> None:
    size = (16 << 20) // np.dtype(dtype).itemsize
    models = [Model({"w": np.full(size, place % 2).astype(dtype)}) for place in range(4)]
    tracemalloc.start()
    try:
        result = mean_of([(model, 1.0) for model in models], like=models[0]).result()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result["w"].nbytes == models[0].nbytes
    assert peak < models[0].nbytes + (6 << 20)


# ---- what one update can do ----------------------------------------------------------------------------------------
class Word(list):
    """What is said of the updates of a round."""

    def update(self, site, value, weight=1.0, metrics=None) -> Update:
        model = as_blob({"w": np.array(value, np.float64)})
        return Update(
            site,
            model,
            weight,
            metrics or {},
            leave_out=lambda why: self.append((site, "left out", why)),
            remark=lambda text: self.append((site, "remark", text)),
        )


BASE = as_blob({"w": np.zeros(2)})


def round_of(*updates, said=None, **bounds) -> tuple[Mean, np.ndarray, Word]:
    said = Word() if said is None else said
    mean = Mean(like=BASE, **bounds)
    for site, value, weight in updates:
        mean.add(said.update(site, value, weight, {"loss": value[0]}))
    return mean, mean.result()["w"], said


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_none_leaves_its_site_out_and_no_other(weight: float) -> None:
    mean, result, said = round_of(("a", [1, 1], 2), ("b", [9, 9], weight), ("c", [3, 3], 2))
    assert result.tolist() == [2, 2]
    assert mean.left_out.keys() == {"b"}
    assert said[0][:2] == ("b", "left out")
    assert f"its weight is {weight}" in said[0][2]
    assert mean.metrics == {"loss": 2.0}


def test_of_three_answers_none_counts_for_more_than_half_and_the_log_says_so() -> None:
    mean, result, said = round_of(("a", [1, 1], 100), ("b", [3, 3], 1e12), ("c", [1, 1], 300))
    assert result.tolist() == pytest.approx([2, 2])
    assert mean.left_out == {}
    assert [(site, kind) for site, kind, _ in said] == [("b", "remark")]
    assert "its weight 1e+12 is 100 % of all weights together and counts as 50 %, the most that" in said[0][2]
    assert mean.metrics["loss"] == pytest.approx(2)


@pytest.mark.parametrize(("large", "small"), [(1e308, 1e-17), (1e308, 5e-324), (1.0, 5e-324)])
def test_no_weight_is_so_large_that_the_others_are_lost_beside_it(large: float, small: float) -> None:
    _, result, said = round_of(("a", [1, 1], small), ("b", [3, 3], large), ("c", [1, 1], small))
    assert result.tolist() == pytest.approx([2, 2])
    assert [site for site, _, _ in said] == ["b"]


def test_of_two_answers_unequal_ones_count_as_they_are_and_none_for_more_than_ninety_nine_parts() -> None:
    for one, two in ((3.0, 7.0), (1.0, 90.0), (5000.0, 100.0)):
        _, result, said = round_of(("a", [0, 0], one), ("b", [1, 1], two))
        assert result.tolist() == pytest.approx([two / (one + two)] * 2)
        assert [site for site, _, _ in said] == ["a" if one > two else "b"]
        assert f"{100 * max(one, two) / (one + two):.3g} % of all weights together; it decides the round" in said[0][2]
    _, result, said = round_of(("a", [0, 0], 100), ("b", [1, 1], 1e12))
    assert result.tolist() == pytest.approx([0.99] * 2)
    assert said[0][:2] == ("b", "remark")


def test_of_two_equal_answers_and_of_one_none_decides_more_than_half() -> None:
    assert round_of(("a", [0, 0], 3), ("b", [1, 1], 3))[2] == []
    assert round_of(("a", [0, 0], 3))[2] == []


def test_one_answer_alone_is_the_mean() -> None:
    assert round_of(("a", [4, 5], 1e300))[1].tolist() == [4, 5]
    assert round_of(("a", [4, 5], 5e-324), ("b", [7, 7], 0))[1].tolist() == [4, 5]


@given(st.lists(any_weight | st.just(0.0), min_size=1, max_size=12), st.floats(0.01, 1))
def test_no_share_is_above_the_bound_and_none_below_it_is_raised_above_another(given_weights, share: float) -> None:
    from convoy.model import bounds

    before, after = given_weights, bounds.limited(given_weights, share)
    present = sum(weight > 0 for weight in before)
    if not present:
        return
    most = max(share, 1 / present, bounds.SHARE_OF_TWO if present == 2 else 0)
    assert max(after) <= most * sum(after) * (1 + 1e-9)
    order = sorted(range(len(before)), key=lambda at: before[at])
    assert all(after[a] <= after[b] for a, b in pairwise(order))


def test_an_update_that_is_far_away_is_left_out_by_name_and_the_round_goes_on() -> None:
    mean, result, said = round_of(("a", [1, 0], 1), ("b", [3e38, 0], 1), ("c", [0, 1], 1), ("d", [1, 1], 1))
    assert result.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert [(site, kind) for site, kind, _ in said] == [("b", "left out")]
    assert "3e+38 away from the model (L2)" in mean.left_out["b"]
    assert "10 times the median of the round, 1" in mean.left_out["b"]


def test_a_distance_beyond_every_float_is_left_out_too() -> None:
    mean, result, _ = round_of(("a", [1, 0], 1), ("b", [1.7e308, 1.7e308], 1), ("c", [1, 0], 1))
    assert mean.left_out.keys() == {"b"}
    assert result.tolist() == [1, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_left_out_even_of_two(value: float) -> None:
    mean, result, _ = round_of(("a", [1, 0], 1), ("b", [1, value], 1))
    assert mean.left_out == {"b": "its values are not finite"}
    assert result.tolist() == [1, 0]


def test_sites_that_stand_still_do_not_make_the_one_that_learns_an_offender() -> None:
    mean, _, _ = round_of(("a", [0, 0], 1), ("b", [5, 5], 1), ("c", [0, 0], 1), ("d", [0, 0], 1))
    assert mean.left_out == {}


def test_the_bounds_can_be_turned_off_and_are_checked() -> None:
    updates = (("a", [1, 0], 1), ("b", [1000, 0], 8), ("c", [1, 0], 1))
    mean, result, said = round_of(*updates, max_share=1, max_norm_ratio=0)
    assert result.tolist() == pytest.approx([800.2, 0])
    assert mean.left_out == {}
    assert [(site, kind) for site, kind, _ in said] == [("b", "remark")]
    assert "80 % of all weights together; it decides the round" in said[0][2]
    nan = float("nan")
    for wrong in (
        {"max_share": 0}, {"max_share": 1.5}, {"max_norm_ratio": -1}, {"max_norm_ratio": nan},
        {"clip": -1}, {"clip": nan},
    ):  # fmt: skip
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Mean(like=BASE, **wrong)


def test_a_tiny_weight_that_very_many_steps_divide_to_nothing_is_no_part_of_the_mean() -> None:
    mean = Mean(like=BASE, max_norm_ratio=0)
    for site, weight, steps in (("a", 1e-17, 1e308), ("b", 1.0, 2.0), ("c", 1.0, 4.0)):
        mean.add(Word().update(site, [2.0, 0] if site == "c" else [1.0, 0], weight), steps=steps)
    assert mean.result()["w"].tolist() == pytest.approx([4 / 3, 0])


def test_a_round_without_any_weight_keeps_the_model_and_says_so() -> None:
    mean, result, said = round_of(("a", [1, 0], 0), ("b", [2, 0], 0))
    assert result is BASE["w"]
    assert mean.metrics == {}
    assert [site for site, _, _ in said] == ["a", "b"]
    assert all("the model stays as it was" in why for _, _, why in said)
