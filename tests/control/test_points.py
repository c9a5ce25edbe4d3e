"""Points of live metrics: what one may be, its line, and which of many stay."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.control import points
from convoy.control.points import Point

KEYS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=points.MAX_KEY)
POINTS = st.builds(
    Point,
    values=st.dictionaries(KEYS, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9),
    step=st.none() | st.integers(0, points.MAX_STEP),
    phase=st.sampled_from(["", *points.PHASES]),
    round=st.integers(0, 2**31),
    at=st.integers(0, 10**13).map(lambda ms: ms / 1000),
    number=st.integers(0, 10**14),
)


@given(POINTS)
def test_a_point_is_read_back_from_its_line(point):
    assert points.problem(point) == ""
    line = points.write(point)
    assert points.are_lines(line)
    assert points.number(line) == point.number
    assert points.read(line) == point


@pytest.mark.parametrize(
    ("point", "word"),
    [
        (Point({}), "0 values"),
        (Point({f"k{n}": 1.0 for n in range(101)}), "101 values"),
        (Point({"": 1.0}), "printable"),
        (Point({"a\x1b[2J": 1.0}), "printable"),
        (Point({"right\u202eleft": 1.0}), "printable"),
        (Point({"a" * 101: 1.0}), "printable"),
        (Point({"a": math.nan}), "finite"),
        (Point({"a": 1.0}, step=-1), "step"),
        (Point({"a": 1.0}, step=10**9 + 1), "step"),
        (Point({"a": 1.0}, phase="patient 7"), "phase"),
    ],
)
def test_what_is_no_point_is_said_in_words(point, word):
    assert word in points.problem(point)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        points.write(Point({"a": 1.0}))[:-1],
        points.write(Point({"a": 1.0})) + b"\n",
        points.write(Point({"a": 1.0})).replace(b'"a"', b'"\x1b"'),
        points.write(Point({"a": 1.0})).replace(b'"a"', b'""'),
        points.write(Point({"a": 1.0})).replace(b"1.0}", b"NaN}"),
        points.write(Point({"a": 1.0})).replace(b"1.0}", b"[1]}"),
        points.write(Point({"a": 1.0}, phase="train")).replace(b"train", b"steal"),
    ],
)
def test_bytes_that_are_not_lines_of_points_are_none(data):
    assert not points.are_lines(data)


def test_a_number_that_is_too_large_for_a_float_is_no_point():
    line = points.write(Point({"a": 1.0})).replace(b"1.0}", b"1e999}")
    assert points.are_lines(line)
    assert points.read(line) is None


@given(st.lists(st.integers(0, 1000), unique=True, max_size=60).map(sorted), st.integers(0, 1001))
def test_the_place_of_a_number_is_found_wherever_numbers_are_missing(numbers, wanted):
    lines = [points.write(Point({"a": float(number)}, number=number)) for number in numbers]
    before = b"".join(line for number, line in zip(numbers, lines, strict=True) if number < wanted)
    assert points.place(b"".join(lines), wanted) == len(before)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "train"])), min_size=1, max_size=200))
def test_thinning_keeps_order_the_last_line_and_something_of_each_series_and_at_most_about_half(made):
    lines = [points.write(Point({key: 1.0}, phase=phase, number=n)) for n, (key, phase) in enumerate(made)]
    kept = points.thinned(lines)
    numbers = list(map(points.number, kept))
    assert numbers == sorted(set(numbers))
    assert set(kept) <= set(lines)
    assert kept[-1] == lines[-1]
    assert len(kept) <= 2 * len(lines) // 3 + 8
    if len(lines) > 30:
        assert {(*points.read(line).values, points.read(line).phase) for line in kept} == set(made)


def test_a_curve_that_is_thinned_again_and_again_stays_even_from_its_beginning_to_its_end():
    lines, number = [], 0
    for _ in range(12):
        while len(lines) < 400:
            lines.append(points.write(Point({"loss": 1.0}, number=number)))
            number += 1
        lines = points.thinned(lines)
    numbers = list(map(points.number, lines))
    quarters = [sum(1 for one in numbers if part * number / 4 <= one < (part + 1) * number / 4) for part in range(4)]
    assert min(quarters) > len(numbers) / 10, quarters


def test_lines_that_are_each_a_series_of_their_own_are_thinned_too():
    lines = [points.write(Point({f"k{n}": 1.0}, number=n)) for n in range(100)]
    assert len(points.thinned(lines)) <= 51
