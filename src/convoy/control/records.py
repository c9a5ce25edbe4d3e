"""What the federation remembers: jobs, their members, questions, tasks and rounds, as frozen records.

Tasks, answers and spreads are tuples, since each visit of a site makes one or several of them: frozen dataclasses take
several times as long to make.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, NewType

from convoy.control.costs import NOTHING, Cost
from convoy.model.reply import Slot

JobId = NewType("JobId", str)
SiteName = NewType("SiteName", str)

JOB_ID: Final = re.compile(r"[0-9a-f]{32}")
QUESTION: Final = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")  # the round and the number of the question in it

JobState = Literal["submitted", "running", "ending", "completed", "failed", "aborted"]
MemberState = Literal["starting", "ready", "refused", "away", "ended"]
TaskState = Literal["open", "received", "uncounted", "left_out"]


def are_names(job: str, question: str = "0.0") -> bool:
    """Whether these may be a job's id and a question: both become names of files, on either side."""
    return JOB_ID.fullmatch(job) is not None and QUESTION.fullmatch(question) is not None


@dataclass(frozen=True, slots=True)
class Job:
    """One submitted job; times are seconds since the epoch, for people; only `patience_s` decides anything."""

    id: JobId
    name: str
    submitter: str
    org: str
    bundle: str  # BLAKE3 of the bundle
    size: int  # bytes of the bundle
    spec: str  # job.yaml as validated JSON
    state: JobState
    cause: str  # why it is in this state, for people
    submitted_at: float
    started_at: float = 0.0
    ended_at: float = 0.0
    outcome: JobState = "completed"  # where `ending` leads
    rounds: int = 0  # that the workflow means to run, 0: not said
    deaths: int = 0  # of the workflow worker since the last commit
    traceback: str = ""  # the traceback of what failed, or of what failed last at a site
    faults: int = 0  # times that the server itself failed at this job


@dataclass(frozen=True, slots=True)
class Member:
    """A site in a job."""

    job: JobId
    site: SiteName
    state: MemberState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a workflow to a cohort; `id` is `<round>.<n>`, the n-th question within the round.

    `reply` None: an answer has the arrays of the model in name, dtype and shape. Numbers of 0: no such bound.
    """

    job: JobId
    id: str
    kind: str
    round: int
    rounds: int = 0  # that the workflow means to run
    model: str = ""  # the digest of the arrays that go with it
    reply: tuple[Slot, ...] | None = None
    reply_bytes: int = 0  # the most that arrays of a shape that may vary may have
    settings: str = "{}"  # what the workflow tells a trainer beside the model: a JSON object
    at_least: int = 1  # answers; fewer are an error
    sites: tuple[str, ...] = ()  # empty: every site of the job
    sample: int = 0  # so many of them, drawn by (job, id)
    deadline_s: float = 0.0
    quorum: int = 0  # answers after which the others have `grace_s`
    grace_s: float = 0.0
    max_norm: float = 0.0  # the largest L2 norm of (update - model)
    by_arrival: bool = False  # answers are told as they come, not in site order
    outlives: bool = False  # it stays open after its round has been committed, until its answer is folded
    partial: bool = False  # its arrays are a part of the model; each site has kept the rest
    helper: str = ""  # the class of `convoy` that a trainer has to use, such as `Proximal`; empty: none
    cohort: tuple[SiteName, ...] = ()  # who was asked; empty: nobody yet
    folded: int = 0  # the round whose commit counts the answer of one that outlives its own; 0: none

    @property
    def wants_arrays(self) -> bool:
        """Whether an answer without arrays is refused."""
        return self.kind == "train" if self.reply is None else bool(self.reply)


class Answer(NamedTuple):
    """What a site answers to a question; without a digest it has no arrays."""

    question: str
    digest: str = ""
    weight: float = 1.0
    metrics: Mapping[str, float] = MappingProxyType({})
    value: str = ""  # JSON; empty: none
    state: str = ""  # the digest of what the site keeps for its next task; it is known at the site alone
    state_bytes: int = 0  # its size; 0: the site keeps what it had
    cost: Cost = NOTHING  # what it took
    packed: str = ""  # the dtype that its floats travel as (`privacy/packing.py`); empty: their own


class Task(NamedTuple):
    """A question at one site; its id is (job, question, site), for ever."""

    job: JobId
    question: str
    site: SiteName
    state: TaskState
    answer: Answer | None = None
    place: int = 0  # in the order in which the job's answers came, from 1; 0: it has not come
    reason: str = ""  # why it was left out, or is not counted
    traceback: str = ""  # the site's
    spent: Cost = NOTHING  # what this and all earlier answers of the site to this job took


class Spread(NamedTuple):
    """How an update lies in its round: the L2 norm of (update - model), and the cosine of its angle to the fold's."""

    norm: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Round:
    """A round and who took part in it; without a model it is the one that the job ended in, and counts for nothing."""

    job: JobId
    round: int
    model: str
    metrics: Mapping[str, float]
    best: bool
    took_part: tuple[tuple[str, float], ...]  # (site, weight)
    left_out: tuple[tuple[str, str], ...]  # (site, reason)
    committed_at: float
    state: str = ""  # the digest of the workflow's own state; empty: none
    spread: Mapping[str, Spread] = field(default_factory=dict)  # how the update of each site lies to the fold of all


@dataclass(frozen=True, slots=True)
class Kept:
    """A site's last answer with a state that counts: its question, and the bytes that the site keeps."""

    question: str
    size: int
