"""What a site records of one job: who brought it, what it was given, what left, what stayed and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convoy.control.costs import NOTHING, Cost
from convoy.site import history, refusals
from convoy.site.history import History, Journal
from convoy.spec.filters import Filter

if TYPE_CHECKING:
    from convoy.control.records import Answer, Question
    from convoy.site.admission import Admitted

MOST: Final = 10**15  # of any one number, as of a cost: pages show sums of them
FILE: Final = "tally.jsonl"  # in the job's folder: what has left so far, in its last line
ROTATED: Final = 16 << 10  # of that file, and of the older one: some 40 lines, of which the last one counts


@dataclass(frozen=True, slots=True)
class Tally:
    """What left of one job so far; sizes are bytes. `last` is the question of the newest answer in it."""

    answers: int = 0
    size: int = 0  # of their arrays
    metrics: int = 0  # values of answers
    text: int = 0  # characters that code said beside its arrays
    stayed: int = 0  # answers that the site did not let out, and tasks without one
    rejected: int = 0  # answers that the server did not take
    live: int = 0  # values of live metrics
    live_stayed: int = 0
    log: int = 0
    logs_leave: bool = True
    files: int = 0  # artifacts
    files_size: int = 0
    state: int = 0  # that the trainer keeps here; it stays
    filters: tuple[str, ...] = ()  # that were applied to an answer
    cost: Cost = NOTHING
    last: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        said = {it.name: getattr(self, it.name) for it in fields(self)}
        return said | {"filters": list(self.filters), "cost": self.cost.plain()}

    @classmethod
    def read(cls, said: Any) -> Tally:
        """Return what `plain` wrote; what of it is no such value counts as nothing."""
        if not isinstance(said, dict):
            return cls()
        made: dict[str, Any] = {}
        for it in fields(cls):
            value = said.get(it.name)
            if it.name == "cost":
                made["cost"] = _cost(value)
            elif it.name == "filters":
                made["filters"] = tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
            elif type(value) is type(it.default) and (type(value) is not int or 0 <= value < MOST):
                made[it.name] = value
        return cls(**made)


def _cost(value: Any) -> Cost:
    if not isinstance(value, dict) or not value.keys() <= {*Cost._fields}:
        return NOTHING
    if not all(type(it) in (int, float) for it in value.values()):
        return NOTHING
    made = Cost(**value)
    return made if made.usable else NOTHING


def described(one: Filter) -> str:
    """Return a filter of the policy in a word and its numbers, such as `clip norm=1`."""
    said = asdict(one)
    said.pop("kinds")
    shown = (
        f"{key}={','.join(value)}" if isinstance(value, tuple) else f"{key}={value:g}" for key, value in said.items()
    )
    return f"{type(one).__name__.lower()} {' '.join(shown)}"


@dataclass(frozen=True, slots=True)
class Flows:
    """What leaves of a job all the time, up to now: values of live metrics, those that stayed, bytes of the log."""

    live: int = 0
    live_stayed: int = 0
    log: int = 0


@dataclass(slots=True)
class Record:
    """One job's record. Lines are written before what they say leaves, so that nothing leaves without a line."""

    job: str
    folder: Path
    history: History
    flows: Callable[[], Flows]
    tally: Tally = field(init=False)
    known: bool = field(init=False)  # the job began here, perhaps before a restart
    _tallies: Journal = field(init=False)

    def __post_init__(self) -> None:
        """Go on with what an earlier process of the site had counted."""
        found = read_tally(self.folder)
        self.known, self.tally = found is not None, found or Tally()
        self._tallies = Journal(self.folder / FILE, ROTATED)

    def begun(self, admitted: Admitted, data: Collection[str], withheld: Collection[str]) -> None:
        """The job is accepted; `data` are the names of all data here."""
        if not self.known:
            who, spec = admitted.who, admitted.spec
            self.history.note(
                history.BEGUN,
                self.job,
                name=spec.name,
                submitter=who.name,
                org=who.org,
                role=who.role,
                digest=admitted.digest,
                trainer=spec.trainer or "",
                workflow=spec.workflow,
                data=[name for name in data if name not in withheld],
                withheld=list(withheld),
            )
        self.known = True
        self._count(logs_leave=admitted.leave.logs)

    def answered(self, answer: Answer, question: Question, size: int, filters: Iterable[str], cost: Cost) -> None:
        """An answer is about to leave; `size`: bytes of its arrays. One that is repeated after a kill counts once."""
        applied = [] if not answer.digest else [history.bounded(it, history.MAX_NAME) for it in filters]
        self.history.note(
            history.ANSWER,
            self.job,
            question=question.id,
            round=question.round,
            asks=question.kind,
            digest=answer.digest,
            size=size,
            weight=answer.weight,
            metrics=list(answer.metrics),
            values=len(answer.metrics),
            text=len(answer.value),
            state=answer.state_bytes,
            filters=applied,
        )
        if self.tally.last == question.id:
            return
        now = self.tally
        self._count(
            answers=now.answers + 1,
            size=now.size + size,
            metrics=now.metrics + len(answer.metrics),
            text=now.text + len(answer.value),
            state=answer.state_bytes or now.state,
            filters=tuple(dict.fromkeys((*now.filters, *applied)))[: history.MAX_ITEMS],
            cost=now.cost + cost,
            last=question.id,
        )

    def stayed(self, question: str, reason: str) -> None:
        """A task has no answer: its code failed, or the site refused what it handed over."""
        self.history.note(history.STAYED, self.job, question=question, reason=reason)
        self._count(stayed=self.tally.stayed + 1)

    def rejected(self, question: str, reason: str) -> None:
        """The server did not take an answer."""
        self.history.note(history.REJECTED, self.job, question=question, reason=reason)
        self._count(rejected=self.tally.rejected + 1)

    def refused(self, reason: str) -> None:
        """The site did not take the job, or gave it up."""
        about = refusals.read(self.folder)
        facts = {} if about is None else {key: it for key, it in asdict(about).items() if key not in ("job", "reason")}
        self.history.note(history.REFUSED, self.job, reason=reason, **facts)

    def sent_files(self, files: int, size: int) -> None:
        """Count the artifacts that were sent."""
        self._count(files=files, files_size=size)

    def ended(self, reason: str) -> None:
        """Nothing more will leave; the job's files are about to be removed."""
        if self.known:
            self._count()
            self.history.note(history.ENDED, self.job, reason=reason, tally=self.tally.plain())

    def _count(self, **changes: Any) -> None:
        flows = self.flows()
        self.tally = replace(
            self.tally, live=flows.live, live_stayed=flows.live_stayed, log=max(flows.log, self.tally.log), **changes
        )
        try:
            self._tallies.add(self.tally.plain())
        except OSError as problem:  # a full disk, or the job's files are being removed
            self.history.warn(f"{FILE} of job {self.job}: {problem}")


def read_tally(folder: Path) -> Tally | None:
    """Return what has left so far of a job that is at this site; None before it began."""
    found = history.newest(folder / FILE)
    return None if found is None else Tally.read(found)
