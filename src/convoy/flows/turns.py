"""The rules of a workflow's turns, whatever carries them: numbers of questions, one commit a round, finite models."""

from __future__ import annotations

import asyncio
import math
import operator
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from convoy.control import json_values, numbers
from convoy.control.records import JobId, Question, Spread
from convoy.errors import BadInput, JobFailed, by_reason
from convoy.flows.carrier import Carrier, Commit, Ended, Heard
from convoy.flows.fleet import Job, NotEnough, Round
from convoy.model import frameworks
from convoy.model.arrays import NO_ARRAYS, Model
from convoy.model.reply import LIMIT, slots_of
from convoy.model.schema import check_values
from convoy.model.update import Update, finite
from convoy.spec.units import duration_s, size_bytes

ORDERS: Final = ("site", "arrival")
NOT_THERE: Final = "it was not there when it was asked"
STREAMED: Final = 1_000_000  # the first number in its round of a question that outlives it

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Past:
    """What a workflow finds when it begins: all that was committed before."""

    committed: int = -1  # the last committed round; -1: not even the initial model
    model: Model = NO_ARRAYS
    state: Model = NO_ARRAYS
    history: Sequence[Mapping[str, Any]] = ()
    waiting: Sequence[Question] = ()  # questions that outlive their rounds and are not folded, as their answers came


class Turns:
    """The fleet as a workflow sees it (`convoy.flows.fleet.Fleet`), over a carrier."""

    def __init__(self, job: Job, carrier: Carrier, past: Past, log: Callable[[str], None]) -> None:
        """Begin after what was committed last."""
        self.job = job
        self.history: list[dict[str, Any]] = [dict(round_) for round_ in past.history]
        self.uncounted: dict[str, str] = {}  # in this round: the sites whose answers the workflow left out, and why
        self.spread: dict[str, Spread] = {}  # in this round: where the update of each site lies
        self.folded: list[str] = []  # in this round: the questions that outlive their rounds and were answered
        self.waiting = list(past.waiting)
        self._used = _used(past.waiting)
        self.carrier = carrier
        self._say = log
        self._committed, self._model, self._state = past.committed, past.model, past.state
        self._round = self._total = self._asked = 0
        self._streamed = self._used.get(0, STREAMED)

    @property
    def begun(self) -> bool:
        """Whether the initial model is committed."""
        return self._committed >= 0

    async def begin(self, arrays: Any) -> None:
        """Commit the initial model, as round 0."""
        await self._commit(0, arrays, None, {}, best=False)

    async def rounds(self, count: int) -> AsyncIterator[Round]:
        """Yield rounds up to number `count`, beginning after the last committed one. Raises `JobFailed`."""
        self._total = count
        for number in range(self._committed + 1, count + 1):
            self._round = number
            self._asked, self._streamed = 0, self._used.get(number, STREAMED)
            self.uncounted.clear()
            self.spread.clear()
            self.folded.clear()
            turn = Round(number, count, self._model, self._state, self._keep)
            yield turn
            if not turn.committed:
                raise JobFailed(
                    f"the workflow left round {number} without a commit",
                    fix="end each round with `await round.commit(arrays)`; round.model, if nothing is to change",
                )

    async def _keep(self, turn: Round, arrays: Any, state: Any, metrics: Mapping[str, float], best: bool) -> None:
        if turn.number != self._committed + 1:
            raise JobFailed(
                f"round {turn.number} cannot be committed",
                why=f"round {self._committed} is the last that is",
                fix="commit once in each round of `async for round in fleet.rounds(…)`",
            )
        await self._commit(turn.number, arrays, state, metrics, best=best)

    async def _commit(self, number: int, arrays: Any, state: Any, metrics: Mapping[str, float], *, best: bool) -> None:
        of = f"round {number}"
        told = finite(numbers.metrics(metrics, of), of, self.log)
        model = _model(arrays, f"the model of {of}")
        kept = self._state if state is None else _model(state, f"the state of {of}")
        commit = Commit(number, told, best, dict(self.uncounted), tuple(self.folded), dict(self.spread))
        self._model, self._state = await self.carrier.commit(commit, model, kept if len(kept) else None)
        self._committed = number
        self.history.append({"round": number, "metrics": told, "best": best})

    def question(self, kind: str, **options: Any) -> Question:
        """Return the next question of this round. Raises `JobFailed` for an option that it cannot have."""
        if options.get("outlives"):  # numbers of their own: those of others are the same after a restart
            number, self._streamed = self._streamed, self._streamed + 1
        else:
            number, self._asked = self._asked, self._asked + 1
        place = (self.job.id, f"{self._round}.{number}", self._round, self._total)
        return _question(place, kind, **options)

    def ask(self, kind: str, model: Any, **options: Any) -> TurnAnswers:
        """Ask sites a question; see `convoy.flows.fleet.Fleet`."""
        return TurnAnswers(self, self.question(kind, **options), model)

    def stream(self, kind: str, **options: Any) -> TurnStream:
        """Keep sites busy across rounds; see `convoy.flows.fleet.Fleet`."""
        return TurnStream(self, kind, options)

    async def sites(self) -> list[str]:
        """Return the sites that could be asked now."""
        return await self.carrier.sites()

    def log(self, text: str) -> None:
        """Write a line into the job's log."""
        self._say(text)

    def update(self, question: Question, heard: Heard, left_out: dict[str, str]) -> Update:
        """Return an answer as the workflow has it, and hear what the workflow says of it."""
        answer, notes = heard.answer, _Notes(self, self._round, question, heard, left_out)
        return Update(
            heard.site,
            heard.model,
            answer.weight,
            dict(answer.metrics),
            notes.leave_out,
            notes.remark,
            notes.lies,
            json_values.read_json(answer.value, "the value of an answer") if answer.value else None,
            heard.base,
            max(self._round - question.round, 0),
        )


class _Notes(NamedTuple):
    """Takes down what the workflow says of one answer, in the round that heard it. A tuple, as in `effects`."""

    turns: Turns
    round: int
    question: Question
    heard: Heard
    left_out: dict[str, str]

    def __deepcopy__(self, _: dict[int, Any]) -> _Notes:
        """Return itself: a copy of an update is still the answer of its site in this round."""
        return self

    def leave_out(self, reason: str) -> None:
        """Note why it does not count."""
        site, kind = self.heard.site, self.question.kind
        self.left_out[site] = reason
        self.turns.log(f"{self._what} does not count: {reason}")
        if self.heard.answer.digest:  # of one that has only measured the model is as it would be
            self.turns.uncounted[site] = f"{kind}: {reason}"

    def remark(self, text: str) -> None:
        """Note what else there is to say of it."""
        self.turns.log(f"{self._what}: {text}")

    def lies(self, norm: float, cosine: float) -> None:
        """Note where it lies in its round."""
        self.turns.spread[self.heard.site] = Spread(norm, cosine)

    @property
    def _what(self) -> str:
        return f"round {self.round}: {self.heard.site}'s answer to {self.question.kind!r}"


class TurnAnswers:
    """The answers to one question; it goes out with the first `async for`."""

    def __init__(self, turns: Turns, question: Question, model: Any) -> None:
        """Keep the question."""
        self.left_out: dict[str, str] = {}
        self._turns, self._question, self._model = turns, question, model
        self._asked = False
        self._named = set() if question.sample else {*question.sites}  # of whom nothing has come yet
        self._heard: deque[Heard | Ended] = deque()
        self._more = asyncio.Event()

    def __aiter__(self) -> TurnAnswers:
        return self

    async def __anext__(self) -> Update:
        if not self._asked:
            self._asked = True
            self._turns.carrier.ask(self._question, self._model, self._hear)
            self._model = None
        while True:
            while not self._heard:
                self._more.clear()
                await self._more.wait()
            heard = self._heard.popleft()
            if isinstance(heard, Ended):
                self._hear(heard)  # asked once more, it says the same
                if heard.error:
                    raise NotEnough(heard.error)
                self.left_out |= dict.fromkeys(sorted(self._named), NOT_THERE)
                raise StopAsyncIteration
            self._named.discard(heard.site)
            if heard.site not in self._question.sites:  # a workflow that started again names others than it did before
                self._named.clear()
            if not heard.left_out:
                return self._turns.update(self._question, heard, self.left_out)
            self.left_out[heard.site] = heard.left_out

    def _hear(self, heard: Heard | Ended) -> None:
        self._heard.append(heard)
        self._more.set()


class TurnStream:
    """Sites that are asked again as soon as they have answered, across rounds: each has one question at a time."""

    def __init__(self, turns: Turns, kind: str, options: Mapping[str, Any]) -> None:
        """Take up what an earlier process of this workflow has asked."""
        self.left_out: dict[str, str] = {}
        self._turns, self._kind, self._options = turns, kind, options
        self._open: dict[str, Question] = {}  # by id
        self._heard: asyncio.Queue[Heard | Ended] = asyncio.Queue()
        self._come: deque[tuple[Question, Heard]] = deque()  # answers that are not taken yet
        _question((turns.job.id, "0.0", 0, 0), kind, **options)  # options that cannot be are told at once
        mine = [one for one in turns.waiting if one.kind == kind]
        turns.waiting = [one for one in turns.waiting if one.kind != kind]
        for question in mine:
            self._ask(question, None)

    async def take(self, count: int, model: Any) -> AsyncIterator[Update]:
        """Yield the next `count` answers as they come, and keep the sites busy with this model meanwhile.

        A site that fails is asked again in the next round. Raises `NotEnough` once no site is left that works.
        """
        self.left_out.clear()
        while not self._heard.empty():
            self._hear(self._heard.get_nowait())
        await self._busy(model, [])
        while count > 0:
            while not self._come:
                if not self._open and self._heard.empty():
                    said = "; ".join(by_reason(sorted(self.left_out.items())))
                    more = f" ({said})" if said else ""
                    raise NotEnough(f"no site works on {self._kind!r} questions any more{more}")
                self._hear(await self._heard.get())
            question, heard = self._come.popleft()
            count -= 1
            self._turns.folded.append(question.id)
            if count:
                await self._busy(model, [heard.site])
            yield self._turns.update(question, heard, self.left_out)

    def _hear(self, heard: Heard | Ended) -> None:
        """Sort what has come: an answer waits for its turn, a site that failed has nothing to do."""
        if isinstance(heard, Ended):
            unanswered = self._open.pop(heard.question, None)
            if unanswered is not None:
                self.left_out[unanswered.sites[0]] = heard.error
            return
        question = self._open.pop(heard.answer.question)
        if heard.left_out:
            self.left_out[heard.site] = heard.left_out
        else:
            self._come.append((question, heard))

    async def _busy(self, model: Any, only: Sequence[str]) -> None:
        """Give each site a question that has none; `only`: these sites, else all."""
        asked = [*self._open.values(), *(question for question, _ in self._come)]
        working = {site for question in asked for site in question.sites}
        for site in only or await self._turns.sites():
            if site not in working:
                question = self._turns.question(
                    self._kind, sites=[site], order="arrival", outlives=True, **self._options
                )
                self._ask(question, model)

    def _ask(self, question: Question, model: Any) -> None:
        self._open[question.id] = question
        self._turns.carrier.ask(question, model, self._heard.put_nowait)


def _used(waiting: Sequence[Question]) -> dict[int, int]:
    """Return for each round the first number that no question of an earlier process has."""
    used: dict[int, int] = {}
    for question in waiting:
        used[question.round] = max(used.get(question.round, 0), int(question.id.partition(".")[2]) + 1)
    return used


def _model(arrays: Any, what: str) -> Model:
    model = arrays if isinstance(arrays, Model) else Model(frameworks.to_arrays(arrays))
    check_values(model, of=what)
    return model


def _question(
    place: tuple[str, str, int, int],  # the job, the question's id, the round and how many there are
    kind: str,
    *,
    at_least: int = 1,
    sites: Sequence[str] | None = None,
    sample: int = 0,
    deadline_s: float = 0.0,
    max_norm: float = 0.0,
    reply: Mapping[str, Any] | None = None,
    reply_limit: int | str = LIMIT,
    settings: Mapping[str, Any] | None = None,
    order: str = "site",
    quorum: int = 0,
    grace: float | str = 0.0,
    outlives: bool = False,
    partial: bool = False,
    helper: str = "",
    **others: Any,
) -> Question:
    """Return a question, each option checked. Raises `JobFailed`."""
    for name, value in others.items():
        raise JobFailed(
            f"{kind!r} is asked with {name}={value!r}",
            why="a question has no such option",
            fix=f"what a trainer is to know goes into its settings: settings={{{name!r}: …}}",
        )
    names = _names(kind, sites)
    if not isinstance(settings, Mapping | None):
        raise JobFailed(f"{kind!r} is asked with settings={settings!r}", fix="give a mapping of names to plain JSON")
    if order not in ORDERS:
        raise JobFailed(f"{kind!r} is asked with order={order!r}", fix='give "site" or "arrival"')
    job, id_, round_, rounds = place
    try:
        return Question(
            job=JobId(job),
            id=id_,
            kind=kind,
            round=round_,
            rounds=rounds,
            at_least=_number(kind, "at_least", at_least, operator.index, least=0),
            sites=names,
            sample=_number(kind, "sample", sample, operator.index, least=0),
            deadline_s=_number(kind, "deadline_s", deadline_s, float, least=0),
            max_norm=_number(kind, "max_norm", max_norm, float, least=0),
            reply=None if reply is None else slots_of(reply),
            reply_bytes=size_bytes(reply_limit),
            settings=json_values.write_json(dict(settings or {}), f"the settings of {kind!r}"),
            by_arrival=order == "arrival",
            quorum=_number(kind, "quorum", quorum, operator.index, least=0),
            grace_s=duration_s(grace) if isinstance(grace, str) else _number(kind, "grace", grace, float, least=0),
            outlives=outlives,
            partial=partial,
            helper=helper,
        )
    except BadInput as problem:
        raise JobFailed(f"{kind!r} cannot be asked so: {problem.what}", why=problem.why, fix=problem.fix) from problem


def _names(kind: str, sites: Any) -> tuple[str, ...]:
    """Return the sites of a question, none for all of them.

    Raises `JobFailed` for what is no list of names, and for an empty one: it would not mean nobody, but all.
    """
    if sites is None:
        return ()
    if isinstance(sites, str):
        raise JobFailed(f"{kind!r} is asked with sites={sites!r}", fix=f"give a list: sites=[{sites!r}]")
    names = tuple(sites) if isinstance(sites, Iterable) else (sites,)
    if not all(isinstance(site, str) for site in names):
        raise JobFailed(f"{kind!r} is asked with sites={sites!r}", fix="give the names of sites")
    if not names:
        fix = "leave the question out where nobody is to be asked; sites=None asks all sites"
        raise JobFailed(f"{kind!r} is asked with an empty list of sites", fix=fix)
    return names


def _number(kind: str, name: str, value: Any, of: Callable[[Any], N], *, least: float = -math.inf) -> N:
    """Return an option of a question as a number, by `operator.index` or `float`. Raises `JobFailed`."""
    try:
        number = of(value)
        usable = not isinstance(value, str | bytes) and math.isfinite(number) and number >= least
    except (TypeError, ValueError, OverflowError):
        usable = False
    if usable:
        return number
    wanted = ("a number" if of is float else "a whole number") + (", 0 or more" if least == 0 else "")
    raise JobFailed(f"{kind!r} is asked with {name}={value!r}", fix=f"give {wanted}")
