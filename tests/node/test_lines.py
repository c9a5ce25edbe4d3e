"""Lines of a job's log."""

from __future__ import annotations

from convoy.node.lines import MAX_LINE, Stamper

T = b"1970-01-01T00:00:0%d.000Z "


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_is_stamped_when_it_ends_and_a_long_one_is_broken() -> None:
    stamper = Stamper(Clock())
    assert stamper.lines(b"one\ntw") == T % 0 + b"one\n"
    assert stamper.lines(b"o\r") == b""
    assert stamper.lines(b"\nthree") == T % 0 + b"two\n"
    assert stamper.flush() == T % 0 + b"three\n"
    assert stamper.flush() == b""
    assert stamper.lines(b"x" * (MAX_LINE + 1)) == T % 0 + b"x" * MAX_LINE + b"\n"


def test_a_progress_bar_is_told_now_and_then_and_as_it_ended() -> None:
    clock = Clock()
    stamper = Stamper(clock)
    assert stamper.lines(b"\r 0%") == b""
    assert stamper.lines(b"\r 1%") == T % 0 + b" 0%\n"
    clock.now = 4.0
    assert stamper.lines(b"\r 2%\r 3%") == b""
    clock.now = 5.0
    assert stamper.lines(b"\r 4%\r 5%") == T % 5 + b" 4%\n"
    assert stamper.lines(b"\r100%\nnext\n") == T % 5 + b"100%\n" + T % 5 + b"next\n"


def test_a_progress_bar_that_wipes_itself_is_told_all_the_same() -> None:
    clock = Clock()
    stamper = Stamper(clock)
    assert stamper.lines(b"\r    \r 1%") == b""
    assert stamper.lines(b"\r    \r 2%") == T % 0 + b" 1%\n"
    assert stamper.lines(b"\r    ") == b""
    assert stamper.lines(b"\r\n   \n") == T % 0 + b"    \n" + T % 0 + b"   \n"
