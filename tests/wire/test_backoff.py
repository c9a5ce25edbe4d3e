"""How long to wait before the next attempt: what comes back is noticed soon, and what stays away is asked rarely."""

import random

import pytest

from convoy.wire.backoff import FIRST_S, LONGEST_S, Backoff


@pytest.fixture
def even(monkeypatch):
    """Waits without jitter."""
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)


def test_what_comes_back_is_noticed_after_about_a_third_of_the_time_that_it_was_away(even):
    backoff, away = Backoff(), 0.0
    while away < 3 * LONGEST_S:
        pause = backoff.pause_s()
        assert pause <= FIRST_S + away / 3
        away += pause


def test_what_stays_away_is_asked_every_few_seconds_and_after_a_success_at_once_again(even):
    backoff = Backoff()
    pauses = [backoff.pause_s() for _ in range(40)]
    assert pauses == sorted(pauses)
    assert sum(pauses[:20]) > 25
    assert pauses[-1] == LONGEST_S
    backoff.reset()
    assert backoff.pause_s() == FIRST_S


def test_those_who_wait_for_the_same_do_not_come_at_once():
    assert len({Backoff().pause_s() for _ in range(100)}) > 90
