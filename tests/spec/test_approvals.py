"""approved.yaml: digests in full, and nothing that is not one."""

import pytest

from convoy.errors import BadInput
from convoy.spec.approvals import Approval, read_approvals, written

ONE = Approval("1" * 64, "2027-01-01T00:00:00+00:00", 'tumours of "bo" #1: a: b')
TWO = Approval("ab" * 32, "2027-01-02T00:00:00+00:00")


def test_what_was_written_is_read_and_digits_stay_text(tmp_path):
    (tmp_path / "approved.yaml").write_text(written([ONE, TWO]))
    assert read_approvals(tmp_path / "approved.yaml") == (ONE, TWO)


def test_no_file_and_an_empty_one_approve_nothing(tmp_path):
    assert read_approvals(tmp_path / "approved.yaml") == ()
    (tmp_path / "approved.yaml").write_text(written([]))
    assert read_approvals(tmp_path / "approved.yaml") == ()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("\n- abc\n", "is not an approval"),
        ("\n- {digest: abcdef}\n", "wanted 64 hex digits"),
        (f"\n- {{digest: {'1' * 64}, whose: bo}}\n", "is not an approval"),
        (f"\n- {{digest: '{'AB' * 32}'}}\n", "wanted 64 hex digits"),
        ("\ndigest: x\n", "is not a list"),
    ],
)
def test_what_approves_nothing_is_refused_with_its_line(tmp_path, text, word):
    (tmp_path / "approved.yaml").write_text(text)
    with pytest.raises(BadInput) as caught:
        read_approvals(tmp_path / "approved.yaml")
    assert word in caught.value.what
    assert "approved.yaml:2:" in caught.value.where
