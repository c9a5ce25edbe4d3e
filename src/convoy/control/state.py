"""The federation in memory: what the machine knows between two events."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from convoy.control.costs import Cost
from convoy.control.events import Capacity, Event
from convoy.control.records import Job, JobId, Kept, Member, Question, Round, SiteName, Task
from convoy.control.transitions import ENDED

REMEMBERED: Final = 30  # events of a job that an error in a decision about it shows


@dataclass(frozen=True, slots=True)
class Needs:
    """What the machine must know of a job.yaml; `sites` empty: every site of the project."""

    min_sites: int
    sites: frozenset[str]
    cpu: float
    memory: int
    gpu: float
    patience_s: float
    seed: str = ""  # what is drawn by chance follows from it


@dataclass(slots=True)
class LiveSite:
    """A site of the project; `capacity` is what it last said."""

    name: SiteName
    listed: bool = True  # in federation.json; one that has left it is remembered for what it did in old jobs
    enabled: bool = True  # an admin's word
    connected: bool = False
    capacity: Capacity = field(default_factory=lambda: Capacity(0, 0, 0))
    version: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)  # what jobs are not isolated from there, and why
    seen_at: float = 0.0  # when it came or went last; seconds since the epoch

    @property
    def welcome(self) -> bool:
        """Whether it may take part."""
        return self.listed and self.enabled


@dataclass(slots=True)
class OpenQuestion:
    """A question whose answers are not committed; its tasks stand in site order."""

    record: Question
    asked_at: float
    tasks: dict[SiteName, Task]
    heard: bool = False  # the workflow that runs now has asked: before that it must not be told
    arrived: list[SiteName] = field(default_factory=list)  # whose tasks are not open, as they came
    unsent: set[SiteName] = field(default_factory=set)  # whose tasks wait for the model, which the disk has lost
    told: int = 0  # tasks already told to the workflow, a prefix of the order
    ended: bool = False
    quorum_at: float = math.inf  # when so many have answered that the others are waited for no longer
    wake: float = math.inf

    counts: Counter[str] = field(init=False)  # tasks by state
    awaited: dict[SiteName, None] = field(init=False)  # the sites whose tasks are open, in site order but for reopened
    _sites: tuple[SiteName, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Count what there is."""
        self.counts = Counter(task.state for task in self.tasks.values())
        self.awaited = {site: None for site, task in self.tasks.items() if task.state == "open"}
        self._sites = tuple(self.tasks)

    def put(self, task: Task) -> Task:
        """Put a task that has changed in its place; return it. What it costs does not grow with the cohort."""
        before, self.tasks[task.site] = self.tasks[task.site], task
        self.counts[before.state] -= 1
        self.counts[task.state] += 1
        if before.state == "open" != task.state:
            del self.awaited[task.site]
            self.arrived.append(task.site)
        elif before.state != "open" == task.state:
            self.awaited[task.site] = None
            self.arrived.remove(task.site)
        return task

    def at(self, place: int) -> Task | None:
        """Return the task that is told at a place, from 0; None as long as it is not known, or open."""
        sites = self.arrived if self.record.by_arrival else self._sites
        task = self.tasks[sites[place]] if place < len(sites) else None
        return None if task is None or task.state == "open" else task


@dataclass(slots=True)
class Pending:
    """A question for which too few sites are there; `since` is on the machine's clock."""

    question: Question
    since: float


@dataclass(slots=True)
class Unsynced:
    """A commit whose model is not on the disk for good: what a server needs that a kill takes back to before it."""

    round: int
    best: Round | None = None  # the best one before it, if it is better
    questions: set[str] = field(default_factory=set)  # that nobody asks after it
    after: dict[SiteName, Kept | None] = field(default_factory=dict)  # `LiveJob.after` before it, where it changes that
    folded: dict[SiteName, list[str]] = field(default_factory=dict)  # questions of earlier rounds that are part of it


@dataclass(frozen=True, slots=True)
class Working:
    """A running job whose workflow was told to run, and is not known to wait for anything."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A running job whose workflow waits for something before it runs, such as a machine for its pod."""

    why: str


@dataclass(frozen=True, slots=True)
class Stalled:
    """A running job whose workflow is to be started when the disk has room."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """An ending job that waits until an instant on `Now.mono` for connected sites to say that they have stopped."""

    until: float


@dataclass(frozen=True, slots=True)
class Keeping:
    """An ending job whose results are on their way into the object store."""


Phase = Working | Waiting | Stalled | Stopping | Keeping


@dataclass(slots=True)
class LiveJob:
    """A job and all that belongs to it."""

    record: Job
    needs: Needs
    members: dict[SiteName, Member] = field(default_factory=dict)
    questions: dict[str, OpenQuestion] = field(default_factory=dict)
    last: Round | None = None  # the last committed round; those before it are in the ledger
    best: Round | None = None  # the last one that was called best
    pending: dict[str, Pending] = field(default_factory=dict)  # questions that wait for enough sites
    places: int = 0  # answers that have come
    after: dict[SiteName, Kept] = field(default_factory=dict)  # each site's last answer with a state that counts
    spent: dict[SiteName, Cost] = field(default_factory=dict)  # what all answers of each site took
    synced: int = -1  # the last round whose model is on the disk for good
    unsynced: list[Unsynced] = field(default_factory=list)  # the commits after it, oldest first
    seen: dict[SiteName, float] = field(default_factory=dict)  # last progress, seconds of the machine's clock
    willing: set[SiteName] = field(default_factory=set)  # refused it, and may be asked once more when they have room
    happened: deque[tuple[float, Event]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))  # the last events
    phase: Phase | None = field(init=False)  # where it is within `running` or `ending`; None: it is in neither

    def __post_init__(self) -> None:
        """Begin where a server that starts takes the job up."""
        match self.record.state:
            case "running":
                self.phase = Working()
            case "ending":
                self.phase = Keeping()
            case _:
                self.phase = None

    @property
    def committed(self) -> int:
        """The last committed round; -1: not even the initial model."""
        return -1 if self.last is None else self.last.round

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.record.state in ENDED

    @property
    def flow_waits(self) -> str:
        """What its workflow waits for before it runs; empty: nothing."""
        return self.phase.why if isinstance(self.phase, Waiting) else ""

    @property
    def stopping(self) -> bool:
        """Whether it ends and waits for the last words of its sites."""
        return isinstance(self.phase, Stopping)

    @property
    def waiting_for(self) -> list[str]:
        """The sites whose answers are awaited now."""
        return sorted(
            {
                task.site
                for question in self.questions.values()
                if not question.ended
                for task in question.tasks.values()
                if task.state == "open"
            }
        )


@dataclass(slots=True)
class State:
    """Sites by name, and jobs in the order they came in: those that have not ended, or that a site still holds."""

    max_jobs: int
    sites: dict[SiteName, LiveSite]
    jobs: dict[JobId, LiveJob] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)  # jobs that ended and were let go, by how, since the start
    problem: str = ""  # what keeps new work out, in words
    problem_since: float = 0.0  # seconds of the machine's clock
