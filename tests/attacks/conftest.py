"""Attacks run on the federations of the scenarios."""

from tests.scenarios.conftest import gated, started

__all__ = ["gated", "started"]
