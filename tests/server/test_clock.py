"""The clock that decides: what it counts, and that it never goes back, whatever stops or holds up its server."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from convoy.server.clock import BEAT_S, SLACK_S, Clock


class Time:
    """Seconds that a test moves on."""

    def __init__(self):
        self.at = 1_000.0

    def __call__(self):
        return self.at


@pytest.fixture
def time():
    return Time()


def test_while_beats_come_every_second_counts(time):
    clock = Clock(time)
    begun = clock.now().mono
    for _ in range(60):
        time.at += clock.until(begun + 60)
    assert clock.now().mono - begun == pytest.approx(60)
    assert clock.until(begun + 60) == 0


@pytest.mark.parametrize("stopped", [2.0, 40.0, 86_400.0])
def test_what_the_process_did_not_run_is_not_counted(time, stopped):
    clock = Clock(time)
    begun = clock.now().mono
    clock.until(begun + 60)
    time.at += stopped
    assert clock.now().mono - begun == pytest.approx(BEAT_S + min(SLACK_S, stopped - BEAT_S))
    assert clock.until(begun + 60) == BEAT_S


def test_where_nothing_is_due_no_beat_is_missed(time):
    clock = Clock(time)
    begun = clock.now().mono
    clock.until(begun + 60)
    clock.rest()
    time.at += 500
    assert clock.now().mono - begun == 500


def test_a_start_that_takes_a_minute_is_not_counted(time):
    clock = Clock(time)
    loaded = clock.now().mono
    time.at += 60
    clock.leave_out(loaded)
    assert clock.now().mono == loaded
    time.at += 1
    assert clock.now().mono == loaded + 1


def test_a_write_that_begins_late_and_takes_long_is_counted_as_any_other(time):
    clock = Clock(time)
    begun = clock.now().mono
    clock.until(begun + 60)
    time.at += 40  # the loop was held up, and goes on with a write
    with clock.writing():
        for _ in range(30):
            time.at += clock.until(begun + 60)
    assert clock.now().mono - begun == pytest.approx(BEAT_S + SLACK_S + SLACK_S)


def test_a_write_that_takes_a_minute_counts_as_the_second_that_it_may_take(time):
    clock = Clock(time)
    begun = clock.now().mono
    with clock.writing():
        for _ in range(60):
            time.at += clock.until(begun + 60)
        assert clock.now().mono - begun == SLACK_S
    time.at += 0.5
    assert clock.now().mono - begun == SLACK_S + 0.5


MOVES = st.lists(
    st.one_of(
        st.floats(0, 100),
        st.sampled_from(["beat", "rest", "begin", "end"]),
    ),
    max_size=40,
)


@given(MOVES)
def test_it_never_goes_back_and_never_counts_more_than_passes(moves):
    time = Time()
    clock, writing, last = Clock(time), None, 1_000.0
    for move in moves:
        before = time.at
        match move:
            case "beat":
                clock.until(last + 60)
            case "rest":
                clock.rest()
            case "begin" if writing is None:
                writing = clock.writing()
                writing.__enter__()
            case "end" if writing is not None:
                writing.__exit__(None, None, None)
                writing = None
            case float():
                time.at += move
        now = clock.now().mono
        assert last - 1e-9 <= now <= last + (time.at - before) + 1e-9
        last = now
