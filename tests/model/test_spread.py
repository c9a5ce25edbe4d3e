"""The cosine of each update to the fold: by hand, at any length, in any dtype, and near enough in a large model."""

import math

import ml_dtypes
import numpy as np
import pytest

from convoy.model import spread
from convoy.model.arrays import Model
from convoy.model.mean import Mean
from convoy.model.update import Update


def lies(base, models, **options):
    """Return what the mean says of each update: norm and cosine, by site."""
    found, mean = {}, Mean(like=base, **options)
    for place, model in enumerate(models):

        def note(norm, cosine, site=f"s{place}"):
            found[site] = norm, cosine

        mean.add(Update(f"s{place}", Model(model), lies=note))
    mean.result()
    return found


def test_norms_and_cosines_are_those_of_a_calculation_by_hand():
    base = {"w": np.zeros(2, "f4"), "n": np.zeros(1, "i8")}
    models = [{"w": np.array(it, "f4"), "n": np.array([place])} for place, it in enumerate(([3, 0], [0, 4], [3, 4]))]
    found = lies(base, models, max_norm_ratio=0, max_share=1)
    way = np.array([2, 8 / 3])
    for site, own in (("s0", [3, 0]), ("s1", [0, 4]), ("s2", [3, 4])):
        norm, cosine = found[site]
        assert norm == pytest.approx(np.linalg.norm(own))
        assert cosine == pytest.approx(np.dot(own, way) / np.linalg.norm(own) / np.linalg.norm(way), abs=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30, 1e150])
def test_an_outlier_of_any_length_that_points_the_other_way_is_seen(size):
    base = {"w": np.zeros(8)}
    models = [{"w": np.full(8, size)}, {"w": np.full(8, size)}, {"w": np.full(8, size)}, {"w": np.full(8, -40 * size)}]
    found = lies(base, models)
    assert found["s3"][1] == pytest.approx(-1)  # it is left out for its distance, and still looked at
    assert [found[site][1] for site in ("s0", "s1", "s2")] == pytest.approx([1, 1, 1])
    assert found["s3"][0] == pytest.approx(40 * size * math.sqrt(8))


def test_updates_that_changed_nothing_and_models_without_floats_have_no_angle():
    base = {"w": np.ones(3, "f4")}
    assert lies(base, [base, base]) == {"s0": (0.0, 0.0), "s1": (0.0, 0.0)}
    counts = {"n": np.zeros(3, "i8")}
    assert lies(counts, [{"n": np.ones(3, "i8")}]) == {"s0": (0.0, 0.0)}


def test_a_large_model_is_looked_at_in_stretches_and_its_cosine_is_near_the_exact_one():
    drawn = np.random.default_rng(0)
    base = {"a": np.zeros(3_000_000, ml_dtypes.bfloat16), "b": np.zeros(700_001, "f4"), "c": np.zeros(5, "f2")}
    common = {name: drawn.normal(size=it.size) for name, it in base.items()}
    models = [
        {name: (common[name] + way * drawn.normal(size=it.size)).astype(it.dtype) for name, it in base.items()}
        for way in (0.5, 2.0, 5.0)
    ]
    found = lies(base, models, max_norm_ratio=0)
    flat = [np.concatenate([model[name].astype("f8") for name in base]) for model in models]
    way = np.mean(flat, axis=0)
    for place, own in enumerate(flat):
        exact = own @ way / np.linalg.norm(own) / np.linalg.norm(way)
        assert found[f"s{place}"][1] == pytest.approx(exact, abs=0.01)


def test_the_stretches_are_within_the_tensor_do_not_overlap_and_are_few():
    for size, total in ((5, 10_000_000), (5_000, 10_000_000), (9_999_999, 10_000_000), (spread.LOOKED, spread.LOOKED)):
        parts, places = spread._stretches(size, total), np.arange(size)
        covered = np.concatenate([places[part] for part in parts])
        assert np.unique(covered).size == covered.size
        assert 0 < covered.size <= max(1.5 * spread.LOOKED * size / total, 1)


@pytest.mark.parametrize(("size", "count"), [(1_000, 5_000), (2_000, 100_000), (10, 1_000_000), (3_000, 90)])
def test_of_very_many_tensors_few_values_are_looked_at_too(size, count):
    total = size * count
    one = sum(len(range(size)[part]) for part in spread._stretches(size, total))
    assert 0 < one * count <= max(1.5 * spread.LOOKED, count)
