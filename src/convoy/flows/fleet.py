"""What a workflow sees: the fleet of sites, its rounds, its questions and their answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from convoy.errors import JobFailed
from convoy.model.arrays import Model
from convoy.model.update import Update

__all__ = ["Answers", "Fleet", "Job", "NotEnough", "Round", "Stream", "Update"]


class NotEnough(JobFailed):
    """Fewer sites answered a question than it needs; a workflow may catch it and ask otherwise."""


@dataclass(frozen=True, slots=True)
class Job:
    """The job that a workflow belongs to; `config` is job.yaml's."""

    id: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Round:
    """One turn of a workflow; `model` is what the round before committed."""

    number: int  # from 1 to `total`
    total: int
    model: Model
    state: Model  # what the round before kept beside its model; empty at first
    keep: Callable[[Round, Any, Any, Mapping[str, float], bool], Awaitable[None]] = field(repr=False)
    committed: bool = False

    @property
    def last(self) -> bool:
        """Whether no round follows this one."""
        return self.number == self.total

    async def commit(
        self, arrays: Any, *, state: Any = None, metrics: Mapping[str, float] | None = None, best: bool = False
    ) -> None:
        """Make these arrays the model of this round, for good; `best` marks it as the best model so far.

        `state`: arrays of the workflow's own, such as a momentum, which are the `state` of the next round and are never
        sent to a site; None keeps those of this round. It returns when the server's disk has both: a workflow that is
        started again goes on from here.
        """
        await self.keep(self, arrays, state, dict(metrics or {}), best)
        self.committed = True


class Answers(Protocol):
    """The updates to one question, in its order; raises `NotEnough` after the last if there were too few.

    What a workflow says with `update.leave_out(reason)` stands in the round's record and in the job's log.
    """

    @property
    def left_out(self) -> Mapping[str, str]:
        """The sites that gave no update, or one that was left out, and why; complete once the iteration has ended."""
        ...

    def __aiter__(self) -> AsyncIterator[Update]: ...

    async def __anext__(self) -> Update: ...


class Stream(Protocol):
    """Sites that are asked again as soon as they have answered, without waiting for the others."""

    @property
    def left_out(self) -> Mapping[str, str]:
        """The sites that failed in this round, and why; they are asked again in the next one."""
        ...

    def take(self, count: int, model: Any) -> AsyncIterator[Update]:
        """Yield the next `count` answers as they come, and ask sites that are free with this model meanwhile.

        An answer may be to a question of an earlier round: `update.staleness` says how many rounds lie between. The
        commit of the round counts the answers that it has yielded. Raises `NotEnough` when no site is left that works.
        """
        ...


class Fleet(Protocol):
    """The sites of a job, as its workflow asks them."""

    @property
    def job(self) -> Job:
        """The job that this workflow belongs to."""
        ...

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """The committed rounds: `{"round": 3, "metrics": {...}, "best": False}`, the initial model's (0) first.

        It outlives the workflow's process; so do arrays of an algorithm's own, as the round's `state`.
        """
        ...

    def rounds(self, count: int) -> AsyncIterator[Round]:
        """Yield rounds up to number `count`, beginning after the last committed one; each must be committed."""
        ...

    def ask(
        self,
        kind: str,
        model: Any,
        *,
        at_least: int = 1,
        sites: Sequence[str] | None = None,
        sample: int = 0,
        deadline_s: float = 0.0,
        max_norm: float = 0.0,
        reply: Mapping[str, tuple[Any, tuple[int | None, ...]]] | None = None,
        reply_limit: int | str = "1Mi",
        settings: Mapping[str, Any] | None = None,
        order: str = "site",
        quorum: int = 0,
        grace: float | str = 0.0,
    ) -> Answers:
        """Ask sites a question and return their answers as they may be folded.

        `kind` is "train", "evaluate" or a word of your own; `model` the arrays that go with it. `sites` None: all of
        them; `sample` > 0: so many, drawn by the job and the question; `deadline_s` 0: none but the job's patience;
        `max_norm` > 0: the largest L2 norm of (update - model).

        `reply`: the arrays of an answer where they are not shaped like the model's, by name: a dtype and a shape, in
        which None is any length, such as `{"counts": ("i8", (None, 32))}`; `reply_limit`: the most bytes of an answer
        whose shapes may vary. `settings`: what trainers find as `task.settings`, JSON of at most 64 KiB.

        `order`: "site", which is the same whatever the network does, or "arrival": as they come; a workflow that is
        started again gets them in the same order. `quorum` > 0: once so many have answered, the others have `grace`
        seconds (or `30s`), then they are left out.
        """
        ...

    def stream(
        self,
        kind: str,
        *,
        deadline_s: float = 0.0,
        max_norm: float = 0.0,
        reply: Mapping[str, tuple[Any, tuple[int | None, ...]]] | None = None,
        reply_limit: int | str = "1Mi",
        settings: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Return what keeps every site busy with one question at a time, across rounds: for asynchronous workflows.

        Make it once, before the rounds. `deadline_s` and the others are those of `ask`, for each question.
        """
        ...

    async def sites(self) -> list[str]:
        """Return the sites that could be asked now."""
        ...

    def log(self, text: str) -> None:
        """Write a line into the job's log."""
        ...
