"""Paths in a bundle: plain, relative, sorted, and the same file everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.trust import paths

UNSAFE = [
    "",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a//b",
    "a/",
    "./a",
    "a/.",
    "a\\b",
    "C:x",
    "a\x00b",
    "a\nb",
    "trailing.",
    "trailing ",
    "cafe\u0301.py",
    "\ud800",
    ".hidden",
    "a/.git/config",
    "...x",
    "-rf",
    "~",
    "a/ b",
    "nul",
    "CON.txt",
    "a/com1.py",
    "\uff23on",
    "x\u202etxt.py",
    "x\u200by.py",
    "x\x9by",
    "x\u2028y",
    "x\u00a0y",
    "x" * 256,
    "/".join(["ab"] * 400),
]


@pytest.mark.parametrize("path", UNSAFE)
def test_an_unsafe_path_is_refused(path):
    assert paths.problem([path])


@pytest.mark.parametrize(
    "path", ["train.py", "data/a.csv", "console.py", "common.py", "caf\u00e9.py", "a b.py", "x" * 255]
)
def test_a_plain_path_is_taken(path):
    assert paths.problem([path]) == ""


@pytest.mark.parametrize(
    "listed",
    [
        ["b", "a"],
        ["a", "a"],
        ["A.py", "a.py"],
        ["a", "a/b"],
        ["A/x", "a"],
        ["A", "a/b"],
        ["D/x", "d"],
        ["a2", "a\u00b2"],
    ],
)
def test_paths_that_are_unsorted_or_that_some_file_system_takes_for_one_are_refused(listed):
    assert paths.problem(listed)


def test_a_folder_may_hold_many_files():
    assert paths.problem(["A/x", "a/y", "b"]) == ""


@given(st.text(max_size=30))
def test_what_is_taken_stays_below_its_folder(path):
    if not paths.problem([path]):
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert "\\" not in path
        assert "\x00" not in path
