"""A visit is one task at one site; an engine does visits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

from convoy.control.records import Question
from convoy.model.arrays import Model


class Visit(NamedTuple):
    """One task at one site: the question, its arrays, and what the site has kept."""

    site: str
    question: Question
    model: Model
    state: Model


class Visited(NamedTuple):
    """What came of a visit: a reply in which every part can be sent and is finite, or `error` and its traceback."""

    arrays: Model | None = None
    weight: float = 1.0
    metrics: Mapping[str, float] = MappingProxyType({})
    value: str = ""
    state: Mapping[str, Any] | None = None
    error: str = ""
    traceback: str = ""


class Engine(Protocol):
    """Does visits, one after the other or many at the same time.

    `inside`: it does each visit in this process when its result is wanted, and nothing else goes on meanwhile.
    """

    inside: ClassVar[bool]

    def working(self) -> AbstractContextManager[None]:
        """Let visits be done: in such a block their results are wanted.

        An engine of this process lets it be the sites' until the end of the block, so that no visit has to: nobody
        else gets a turn there.
        """
        ...

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
