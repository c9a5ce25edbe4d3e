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
    """Fewer sites answered a question than it needs; a workflow may catch this and ask a different question."""


@dataclass(frozen=True, slots=True)
class Job:
    """The job that a workflow belongs to; `config` is job.yaml's."""

    id: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Round:
    """One round of a workflow; `model` is the model that the previous round committed."""

    number: int  # from 1 to `total`
    total: int
    model: Model
    state: Model  # the workflow's own arrays that the previous round committed; empty at first
    keep: Callable[[Round, Any, Any, Mapping[str, float], bool], Awaitable[None]] = field(repr=False)
    committed: bool = False

    @property
    def last(self) -> bool:
        """Whether no round follows this one."""
        return self.number == self.total

    async def commit(
        self, arrays: Any, *, state: Any = None, metrics: Mapping[str, float] | None = None, best: bool = False
    ) -> None:
        """Commit these arrays as the model of this round, durably; `best` marks it as the best model so far.

        `state`: arrays of the workflow's own, such as a momentum, which are the `state` of the next round and are never
        sent to a site; None keeps those of this round. It returns when both are on the server's disk: a workflow that
        is started again continues from here.
        """
        await self.keep(self, arrays, state, {} if metrics is None else metrics, best)
        self.committed = True


class Answers(Protocol):
    """The updates that answer one question, in its order; raises `NotEnough` after the last if there were too few.

    The reason of `update.leave_out(reason)` is in the round's record and in the job's log.
    """

    @property
    def left_out(self) -> Mapping[str, str]:
        """The sites whose update is missing or was left out, with the reason; complete when the iteration has ended."""
        ...

    def __aiter__(self) -> AsyncIterator[Update]: ...

    async def __anext__(self) -> Update: ...


class Stream(Protocol):
    """Sites that are asked again as soon as they have answered, without waiting for the others."""

    @property
    def left_out(self) -> Mapping[str, str]:
        """The sites that failed in this round, with the reason; they are asked again in the next round."""
        ...

    def take(self, count: int, model: Any) -> AsyncIterator[Update]:
        """Yield the next `count` answers in the order of arrival; meanwhile, ask idle sites with this model.

        An answer may be to a question of an earlier round: `update.staleness` is the number of rounds in between. The
        commit of the round counts the answers that were yielded. Raises `NotEnough` when no site is left.
        """
        ...


class Fleet(Protocol):
    """The sites of a job, to which its workflow sends questions."""

    @property
    def job(self) -> Job:
        """The job that this workflow belongs to."""
        ...

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """The committed rounds: `{"round": 3, "metrics": {...}, "best": False}`, the initial model's (0) first.

        It survives a restart of the workflow's process, as does the `state` of a round.
        """
        ...

    def rounds(self, count: int) -> AsyncIterator[Round]:
        """Yield the rounds up to number `count`, starting after the last committed one; commit each of them."""
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
        partial: bool = False,
        helper: str = "",
    ) -> Answers:
        """Ask sites a question and return their answers.

        `kind` is "train", "evaluate" or a kind of your own; `model` is sent with it. `sites`: names; None: all of them;
        `sample` > 0: so many, drawn from the job and the question; `deadline_s` 0: only the job's patience applies;
        `max_norm` > 0: the largest L2 norm of (update - model).

        `reply`: the arrays of an answer where they are not shaped like the model's, by name: a dtype and a shape, in
        which None is any length, such as `{"counts": ("i8", (None, 32))}`; `reply_limit`: the most bytes of an answer
        whose shapes may vary. `settings`: JSON of at most 64 KiB, which trainers find as `task.settings`.

        `order`: "site" is by name and does not depend on the network; "arrival" is as they arrive, and a workflow that
        is started again gets the same order. `quorum` > 0: once so many sites have answered, the others have `grace`
        (seconds, or text such as `30s`) before they are left out.

        `partial`: `model` is a part of the job's initial model, and each site has the rest: trainers see and return the
        whole model, and what is not in `model` stays at the site. `helper`: the class of `convoy` that trainers have to
        make of the task, such as "Proximal"; an answer with arrays from one that does not is an error at its site.
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
        partial: bool = False,
        helper: str = "",
    ) -> Stream:
        """Return a stream of answers in which each site has one question at a time, across rounds (asynchronous).

        Make it once, before the rounds. The options are those of `ask`, for each question.
        """
        ...

    async def sites(self) -> list[str]:
        """Return the sites that could be asked now."""
        ...

    def log(self, text: str) -> None:
        """Write a line into the job's log."""
        ...
