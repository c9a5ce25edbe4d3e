"""What a trainer has written is kept, or named with why it is not: nothing is lost without a word."""

from pathlib import Path

import pytest

from convoy.site import artifacts

NAME = "ab" * 16


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


def keep(code: Path) -> artifacts.Left:
    return artifacts.keep(code, code.parent / "home", NAME, {"train.py"}, 1 << 20)


def test_a_file_in_the_place_of_the_folder_is_named_among_those_that_go(code):
    (code / "artifacts").write_text("metrics")
    (code / "train.py").write_text("")
    left = keep(code)
    assert (left.files, left.refused, left.gone) == (0, (), ("artifacts",))
    told = "removed with the job: artifacts; what a trainer writes to artifacts/ stays at site-1"
    assert list(left.lines("site-1", Path("x"))) == [told]


def test_a_folder_that_lies_too_deep_is_named_and_the_rest_is_kept(code):
    deep = "/".join("d" * 17)
    (code / "artifacts" / deep).mkdir(parents=True)
    (code / "artifacts" / deep / "far.txt").write_text("far")
    (code / "artifacts" / Path(deep).parent / "near.txt").write_text("near")
    left = keep(code)
    assert (left.files, left.refused) == (1, (deep,))
    assert "below more than 16 folders" in "".join(left.lines("site-1", Path("x")))


def test_a_folder_elsewhere_that_lies_too_deep_is_named_among_those_that_go(code):
    deep = "/".join("d" * 17)
    (code / deep).mkdir(parents=True)
    (code / deep / "far.txt").write_text("far")
    assert keep(code).gone == (deep,)
