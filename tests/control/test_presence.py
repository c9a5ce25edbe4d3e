"""How sites were: the word for each standing, and what is remembered of its changes."""

import pytest

from convoy.control.presence import Presence, standing


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"enabled": False, "connected": True}, "disabled"),
        ({"connected": True, "revoked_at": 1000.0}, "connected"),  # with a certificate that it got since
        ({}, "away"),  # since the server started it was not there, and nobody revoked it
        ({"seen_at": 1000.0}, "away"),
        ({"seen_at": 1000.0, "revoked_at": 900.0}, "away"),
        ({"seen_at": 1000.0, "revoked_at": 1000.5}, "revoked"),
        ({"seen_at": 1000.0, "revoked_at": 999.5}, "revoked"),  # it was disconnected just after that
        ({"revoked_at": 900.0}, "revoked"),
    ],
)
def test_how_a_site_is_in_one_word(said, word):
    plain = {"enabled": True, "connected": False, "seen_at": 0.0, "revoked_at": 0.0}
    assert standing(**plain | said) == word


def test_changes_are_remembered_for_a_time_and_what_was_before_them_stays_known():
    known = Presence(span_s=100, most=64)
    for at, word in ((0, "away"), (10, "connected"), (20, "connected"), (30, "away"), (130, "connected")):
        known.note("a", at, word)
    assert known.of("a", 131) == [(30, "away"), (130, "connected")]
    assert known.of("a", 1000) == [(130, "connected")]
    assert known.of("b", 1000) == []


def test_a_site_that_flaps_takes_bounded_memory_and_others_lose_nothing():
    known = Presence(span_s=1e9, most=64)
    known.note("calm", 0, "connected")
    for at in range(10_000):
        known.note("wild", at, "connected" if at % 2 else "away")
    assert len(known.changes["wild"]) == 64
    assert known.of("wild", 10_000)[-1] == (9999, "connected")
    assert known.of("calm", 10_000) == [(0, "connected")]


def test_sites_that_are_not_listed_any_more_are_forgotten():
    known = Presence(span_s=100, most=64)
    for site in "abc":
        known.note(site, 0, "away")
    known.keep(["a", "z"])
    assert known.changes.keys() == {"a"}
