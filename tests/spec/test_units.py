"""Durations and sizes: what people write, and the laws of reading it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import BadInput
from convoy.spec.units import duration_s, size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("1h30m", 5400), ("1h 30m", 5400), ("500ms", 0.5), ("1.5s", 1.5), ("2d", 172800), ("7", 7), (7, 7)],
)
def test_durations_are_seconds(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1Gi", 1 << 30),
        ("1.5Gi", 3 << 29),
        ("1G", 10**9),
        ("256MB", 256 * 10**6),
        ("256 MiB", 256 << 20),
        ("1k", 1000),
        ("1Ki", 1024),
        ("12B", 12),
        ("12", 12),
        (12, 12),
    ],
)
def test_sizes_are_bytes(text, size):
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "ten", "10 weeks", "-1m", "1m-", "m", "1e3s", "٣s", True, None, -1, float("inf")])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(BadInput):
        duration_s(text)


@pytest.mark.parametrize("text", ["", "big", "1Zi", "-1Gi", "Gi", "1GiGi", "1 gi b", True, None, float("nan")])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(BadInput):
        size_bytes(text)


@given(st.integers(0, 20), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_is_the_sum_of_its_parts(hours, minutes, seconds):
    assert duration_s(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@given(st.integers(0, 10**9), st.sampled_from(["", "Ki", "Mi", "Gi", "k", "M", "G"]))
def test_a_size_is_its_number_times_its_unit_exactly(number, unit):
    assert size_bytes(f"{number}{unit}") == number * size_bytes(f"1{unit}")


@given(st.text(max_size=20))
def test_any_text_is_a_number_from_0_up_or_refused(text):
    for read in (duration_s, size_bytes):
        with contextlib.suppress(BadInput):
            assert read(text) >= 0
