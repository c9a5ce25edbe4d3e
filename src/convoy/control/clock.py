"""An instant on two clocks: one that decides, one for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Now:
    """`mono` decides, `wall` (seconds since the epoch) is for people."""

    mono: float
    wall: float
