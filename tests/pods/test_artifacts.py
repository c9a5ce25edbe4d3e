"""Pieces of artifacts arrive as the files that were sent, within a limit; what is not complete leaves nothing."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.errors import RemoteFault
from convoy.pods.artifacts import PIECE, Arriving, pieces
from convoy.wire import pods_pb2

NAMES = st.sampled_from(["a", "b/c", "b/d", "e/f/g", "z.bin"])
SIZES = st.sampled_from([0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])


def found(folder):
    return {str(it.relative_to(folder)): it.read_bytes() for it in folder.rglob("*") if it.is_file()}


@settings(max_examples=30)
@given(st.dictionaries(NAMES, SIZES))
def test_the_files_that_arrive_are_those_that_were_left(tmp_path_factory, sizes):
    there, here = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("here")
    for name, size in sizes.items():
        path = there / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    arriving = Arriving(here, 1 << 30)
    for piece in pieces(there):
        arriving.take(piece)
    assert arriving.end() == ""
    assert found(here) == found(there)


def piece(path, size=10, *, last=True):
    return pods_pb2.Piece(path=path, data=bytes(size), last=last)


def test_what_is_too_large_is_left_out_as_a_whole_and_later_files_still_come(tmp_path):
    arriving = Arriving(tmp_path, 100)
    for one in (piece("a", 60), piece("b", 30, last=False), piece("b", 30), piece("c", 40), piece("d", 1)):
        arriving.take(one)
    assert "2 files of artifacts/ did not come" in arriving.end()
    assert {name: len(data) for name, data in found(tmp_path / "artifacts").items()} == {"a": 60, "c": 40}


def test_a_file_whose_end_is_missing_leaves_nothing(tmp_path):
    arriving = Arriving(tmp_path, 100)
    arriving.take(piece("a", last=False))
    arriving.take(piece("b"))
    arriving.take(piece("c", last=False))
    assert "2 files" in arriving.end()
    assert found(tmp_path) == {"artifacts/b": bytes(10)}


@pytest.mark.parametrize("path", ["", "..", "a/../b", "/a", "a.part", "a\0b", "CON", "x" * 2000])
def test_a_path_that_is_not_safe_is_refused_before_anything_is_written(tmp_path, path):
    with pytest.raises(RemoteFault, match="not allowed"):
        Arriving(tmp_path, 100).take(piece(path))
    assert list(tmp_path.iterdir()) == []
