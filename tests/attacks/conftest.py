"""Attacks run on the federations of the scenarios."""

from tests.scenarios.conftest import gated, pair, session, started, three, two

__all__ = ["gated", "pair", "session", "started", "three", "two"]
