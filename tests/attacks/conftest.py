"""Attacks run on the federations of the scenarios."""

from tests.scenarios.conftest import gated, session, started, three

__all__ = ["gated", "session", "started", "three"]
