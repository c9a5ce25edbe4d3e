"""A visit is one task at one site; an engine does visits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from convoy.control.records import Question
from convoy.model.arrays import Model


@dataclass(frozen=True, slots=True)
class Visit:
    """One task at one site: the question, its arrays, and what the site has kept."""

    site: str
    question: Question
    model: Model
    state: Model


@dataclass(frozen=True, slots=True)
class Visited:
    """What came of a visit: a reply in which every part can be sent and is finite, or `error` and its traceback."""

    arrays: Model | None = None
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    value: str = ""
    state: Mapping[str, Any] | None = None
    error: str = ""
    traceback: str = ""


class Engine(Protocol):
    """Does visits, one after the other or many at the same time."""

    def start(self, visit: Visit) -> Callable[[], Awaitable[Visited]]:
        """Begin a visit, or note that it is to be done; what is returned gives its result when it is called.

        That raises nothing that a trainer raised.
        """
        ...

    async def close(self) -> None:
        """Let every site's trainer come to its end."""
        ...

    async def stop(self) -> None:
        """End every trainer now."""
        ...
