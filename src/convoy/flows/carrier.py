"""What carries a workflow's questions and commits: three calls, which a process's socket and a test's memory answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from convoy.control.records import Answer, Question, Spread
from convoy.model.arrays import NO_ARRAYS, Model


class Heard(NamedTuple):
    """One site's answer with its arrays, or why that site has none."""

    site: str
    answer: Answer
    model: Model
    left_out: str = ""
    base: Model = NO_ARRAYS  # what a question that outlives its round was about


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more comes to a question; `error` if fewer sites answered than it needs."""

    question: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """What is to be kept of a round beside its arrays; `folded`: questions of other rounds that are in it."""

    round: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)
    folded: tuple[str, ...] = ()
    spread: Mapping[str, Spread] = field(default_factory=dict)  # how the update of each site lies to the fold of all


class Carrier(Protocol):
    """The way from a workflow to the sites and to what is durable."""

    def ask(self, question: Question, arrays: Any, tell: Callable[[Heard | Ended], None]) -> None:
        """Ask, and tell what comes; arrays None: the question has been asked before and names its model itself."""
        ...

    async def commit(self, commit: Commit, model: Model, state: Model | None) -> tuple[Model, Model]:
        """Keep a round for good; return its model and the workflow's state as they are kept."""
        ...

    async def sites(self) -> list[str]:
        """Return the sites that could be asked now, by name."""
        ...
