"""Pieces of artifacts arrive as the files that were sent, within a limit; what is not complete leaves nothing."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.pods import artifacts
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


NOT_ALLOWED = ["", "..", "a/../b", "/a", "a.part", "a\0b", "CON", "x" * 2000, "y" * 254]


@pytest.mark.parametrize("path", NOT_ALLOWED)
@pytest.mark.parametrize("last", [True, False])
def test_a_name_that_is_not_allowed_is_counted_and_writes_nothing_and_the_following_files_come(tmp_path, path, last):
    outside = tmp_path / "a.part"
    outside.write_bytes(b"not of the pod")
    arriving = Arriving(tmp_path / "code", 100)
    arriving.take(piece(path, last=last))
    assert not (tmp_path / "code").exists()
    arriving.take(piece("b/c"))
    assert arriving.end().startswith("1 files")
    assert found(tmp_path) == {"a.part": b"not of the pod", "code/artifacts/b/c": bytes(10)}


@pytest.mark.parametrize("sent", [("a", "a/b", "c"), ("a/b", "a", "c")])
def test_a_file_and_a_folder_of_one_name_are_counted_and_the_first_stays(tmp_path, sent):
    arriving = Arriving(tmp_path, 100)
    for path in sent:
        arriving.take(piece(path))
    assert arriving.end().startswith("1 files")
    assert sorted(found(tmp_path / "artifacts")) == [sent[0], "c"]


def test_what_is_left_out_leaves_no_empty_folder(tmp_path):
    arriving = Arriving(tmp_path, 100)
    for one in (piece("a/b/c", 60, last=False), piece("a/b/c", 60), piece("d/e", last=False), piece("f")):
        arriving.take(one)
    assert arriving.end().startswith("2 files")
    assert sorted(it.name for it in tmp_path.rglob("*")) == ["artifacts", "f"]


def test_files_that_are_begun_are_counted_and_more_than_the_limit_do_not_come(tmp_path, monkeypatch):
    monkeypatch.setattr("convoy.pods.artifacts.MAX_FILES", 3)
    arriving = Arriving(tmp_path, 1000)
    for path in ("a", "..", "b", "c", "d"):
        arriving.take(piece(path))
    assert arriving.end().startswith("3 files")
    assert sorted(found(tmp_path / "artifacts")) == ["a", "b"]


def test_what_an_earlier_pod_has_sent_counts_and_is_replaced(tmp_path):
    first = Arriving(tmp_path, 100)
    for one in (piece("a", 60), piece("b", 20)):
        first.take(one)
    (tmp_path / "artifacts" / "b.part").write_bytes(b"torn")
    second = Arriving(tmp_path, 100)
    assert (second.size, second.count) == (84, 3)
    for one in (piece("a", 50), piece("b", 10), piece("c", 40)):
        second.take(one)
    assert second.end().startswith("1 files")
    assert {name: len(data) for name, data in found(tmp_path / "artifacts").items()} == {"a": 50, "b": 10}


def test_a_file_that_cannot_be_read_is_left_out_and_a_name_that_is_not_utf_8_is_counted(tmp_path, monkeypatch):
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "artifacts").mkdir(parents=True)
    for name in (b"a", b"b\xff", b"c"):
        (there / "artifacts" / os.fsdecode(name)).write_bytes(b"x")
    opened = artifacts.opened

    def refusing(path):
        if path.name == "a":
            raise PermissionError(13, "no", str(path))
        return opened(path)

    monkeypatch.setattr(artifacts, "opened", refusing)
    arriving = Arriving(here, 100)
    for one in pieces(there):
        arriving.take(one)
    assert arriving.end().startswith("1 files")
    assert found(here) == {"artifacts/c": b"x"}
