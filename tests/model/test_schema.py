"""What an update must be."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from convoy.errors import Refused
from convoy.model import arrays, blob, reply, schema

BASE = {"w": np.zeros((2, 3), np.float32), "n": np.array(1)}


def layout(model):
    return blob.build(arrays.describe(model))


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        (
            {"w": BASE["w"]},
            r"the update lacks the tensor 'n'\nit has the tensor 'w'; the model has the tensors 'w', 'n'",
        ),
        ({}, r"the update lacks the tensors 'w', 'n'\nit has no tensors; the model"),
        ({**BASE, "x": np.ones(1)}, "the update has an extra tensor 'x'"),
        (
            {"w": BASE["w"], "m": BASE["n"]},
            r"lacks the tensor 'n' and has an extra tensor 'm'\nit has the tensors 'w', 'm'",
        ),
        ({"w": BASE["w"]} | {f"x{at}": BASE["n"] for at in range(5)}, r"'x0', 'x1', 'x2' and 2 more"),
        (
            {**BASE, "w": np.zeros((3, 2), np.float32)},
            r"'w' .* shape \[3, 2\], the model's \[2, 3\]\ntrain a network of the same sizes",
        ),
        (
            {**BASE, "w": np.zeros((2, 3))},
            r"'w' of the update is float64, the model's is float32\nconvert .*astype\('float32'\)",
        ),
    ],
)
def test_another_layout_is_refused_by_the_tensor_s_name(update, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        schema.check_layout(layout(update), schema.shapes(layout(BASE)))


def test_the_same_layout_passes_whatever_the_values() -> None:
    schema.check_layout(layout({"w": np.ones((2, 3), np.float32), "n": np.array(5)}), schema.shapes(layout(BASE)))


def test_another_order_is_refused_for_it_would_say_something_beside_the_values() -> None:
    base = {"a": np.ones(1), "b": np.ones(1), "c": np.ones(1, "f4")}
    for names in ("bac", "acb", "cab"):
        with pytest.raises(Refused, match="another order"):
            schema.check_layout(layout({name: base[name] for name in names}), schema.shapes(layout(base)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", ml_dtypes.bfloat16])
def test_one_item_that_is_not_finite_is_found_and_named(bad: float, dtype) -> None:
    array = np.ones((300, 300), dtype)
    array[217, 5] = bad
    with pytest.raises(Refused, match=rf"'w'.*\n.*\[217, 5\] is {bad}"):
        schema.check_values({"a": np.ones(3, dtype), "w": array})


def test_large_but_finite_values_pass() -> None:
    schema.check_values({"w": np.full(100_000, 3e38, np.float32), "n": np.arange(3), "b": np.array([True])})


def test_an_update_too_far_from_its_base_is_refused_with_its_distance() -> None:
    base = {"w": np.ones(200_000, np.float32), "n": np.array(0)}
    update = {"w": base["w"] + np.float32(0.5), "n": np.array(99)}
    wanted = 0.5 * 200_000**0.5
    assert schema.distance(update, base) == pytest.approx(wanted)
    schema.check_values(update, base, max_norm=wanted * 1.001)
    with pytest.raises(Refused, match=r"223\.607 away"):
        schema.check_values(update, base, max_norm=wanted * 0.999)


def test_a_distance_beyond_float32_is_still_a_number() -> None:
    base = {"w": np.zeros(4, np.float32)}
    assert schema.distance({"w": np.full(4, 3e38, np.float32)}, base) == pytest.approx(6e38)
    with pytest.raises(Refused, match="6e"):
        schema.check_values({"w": np.full(4, 3e38, np.float32)}, base, max_norm=1)


def test_the_limit_of_an_answer_counts_the_bytes_of_its_arrays_as_the_trainer_does_and_no_header():
    slots = reply.slots_of({"counts": ("i8", (None,))})
    answer = {"counts": np.zeros(4, np.int64)}
    shapes = {"counts": ("I64", (4,))}
    for most in (31, 32):
        checks = (
            lambda most=most: reply.check(shapes, slots, size=32, most=most),
            lambda most=most: reply.check_layout(layout(answer), layout({}), slots, most),
        )
        for check in checks:
            if most < 32:
                with pytest.raises(Refused, match="the answer has 32 bytes of arrays"):
                    check()
            else:
                check()


@pytest.mark.parametrize(
    ("names", "fix"),
    [
        (["module.w", "module.n"], "answer with the network in its wrapper: net.module"),
        (["_orig_mod.w", "_orig_mod.n"], "answer with the network in its wrapper: net._orig_mod"),
        (["0", "1"], "answer with the model's names: dict(zip(task.model, arrays))"),
        (["module.w", "n"], "answer with every tensor of the model"),
        (["0", "1", "2"], "answer with every tensor of the model"),
    ],
)
def test_tensors_that_came_under_other_names_are_told_how_to_get_the_model_s(names: list[str], fix: str) -> None:
    base = schema.shapes(layout(BASE))
    with pytest.raises(Refused) as refused:
        schema.check_shapes(dict.fromkeys(names, base["w"]), base)
    assert fix in str(refused.value)
