"""What a doctor says of one thing that it looked at: how it is, what was seen, the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a finding is."""

    OK = "ok"
    ADVICE = "advice"  # it goes, and could be better
    TROUBLE = "trouble"  # a federation would not stand
    UNSEEN = "not checked"  # it cannot be seen from here


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, or was not."""

    name: str
    state: State
    seen: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def lines(found: Sequence[Finding]) -> list[str]:
    """Return findings as lines for people, each fix on a line of its own, so that it can be pasted."""
    first, second = max(map(len, State)), max(len(one.name) for one in found)
    said = []
    for one in found:
        said.append(f"{one.state.ljust(first)}  {one.name.ljust(second)}  {one.seen}")
        if one.fix:
            said.append(f"{' ' * first}  fix: {one.fix}")
    return said
