"""Text from elsewhere, as it may be shown."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.spec import printable

NASTY = [
    "\x1b]52;c;cm0gLXJm\x07",
    "\x1b[2J",
    "\r",
    "\b",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\u2028",
    "\x85",
    "\ud800",
    "\x00",
]
ACTING = {"Cc", "Cs", "Zl", "Zp"}
text = st.text(st.one_of(st.characters(), st.sampled_from("".join(NASTY))))


def acts(char):
    return unicodedata.category(char) in ACTING or unicodedata.bidirectional(char) in {
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
    }  # fmt: skip


@given(text)
def test_one_line_is_one_line_that_does_nothing(said):
    shown = printable.one_line(said)
    assert not [char for char in shown if acts(char) and char != "\t"]
    assert printable.one_line(shown) == shown
    shown.encode()  # half a character cannot be printed


@given(text)
def test_many_lines_keep_their_newlines_and_tabs_alone(said):
    assert not [char for char in printable.many_lines(said) if acts(char) and char not in "\n\t"]


@given(text, st.integers(0, 40))
def test_the_bytes_of_a_log_keep_their_number_and_do_nothing_however_they_are_cut(said, at):
    data = said.encode(errors="replace")
    first = printable.blanked(data[:at])
    whole = first + printable.blanked(data[at:], first)
    assert len(whole) == len(data)
    assert not [char for char in whole.decode(errors="replace") if acts(char) and char not in "\n\t"]


@pytest.mark.parametrize(
    ("said", "shown"), [("a\nb", "a\\nb"), ("\x1b[31m", "\\x1b[31m"), ("x\u202ey", "x\\u202ey"), ("é 中 🙂", "é 中 🙂")]
)
def test_what_acts_is_shown_by_its_number(said, shown):
    assert printable.one_line(said) == shown
