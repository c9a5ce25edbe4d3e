"""What may be read of the state outside this package: protocols whose members are read-only.

`state.State` and its parts satisfy them, and change by events alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from convoy.control.costs import Cost
from convoy.control.events import Capacity
from convoy.control.records import Job, JobId, Kept, Member, Question, Round, SiteName, Task
from convoy.control.state import Needs, Unsynced


class ReadOnlySite(Protocol):
    """A site of the project."""

    @property
    def name(self) -> SiteName:
        """Its name in federation.json."""

    @property
    def listed(self) -> bool:
        """Whether it is in federation.json."""

    @property
    def enabled(self) -> bool:
        """Whether the admins let it take part."""

    @property
    def welcome(self) -> bool:
        """Whether it may take part."""

    @property
    def connected(self) -> bool:
        """Whether its stream is open."""

    @property
    def capacity(self) -> Capacity:
        """What it said last that it can give to jobs."""

    @property
    def version(self) -> str:
        """The version of Convoy that it runs."""

    @property
    def missing(self) -> Mapping[str, str]:
        """What jobs are not isolated from there, and why."""

    @property
    def seen_at(self) -> float:
        """When it came or went last, in seconds since the epoch."""


class ReadOnlyQuestion(Protocol):
    """A question whose answers are not committed."""

    @property
    def record(self) -> Question:
        """The question as it is remembered."""

    @property
    def tasks(self) -> Mapping[SiteName, Task]:
        """Its tasks, in site order."""

    @property
    def asked_at(self) -> float:
        """When it was asked, on the machine's clock."""

    @property
    def ended(self) -> bool:
        """Whether nobody is waited for any more."""

    @property
    def awaited(self) -> Collection[SiteName]:
        """The sites whose answers are awaited."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many tasks are in which state."""


class ReadOnlyJob(Protocol):
    """A job and all that belongs to it."""

    @property
    def record(self) -> Job:
        """The job as it is remembered."""

    @property
    def needs(self) -> Needs:
        """What its job.yaml demands."""

    @property
    def members(self) -> Mapping[SiteName, Member]:
        """The sites in it."""

    @property
    def questions(self) -> Mapping[str, ReadOnlyQuestion]:
        """Its open questions, by id."""

    @property
    def pending(self) -> Collection[str]:
        """The ids of its questions that wait for enough sites."""

    @property
    def last(self) -> Round | None:
        """The last committed round."""

    @property
    def best(self) -> Round | None:
        """The last round that was called best."""

    @property
    def committed(self) -> int:
        """The last committed round; -1: not even the initial model."""

    @property
    def synced(self) -> int:
        """The last round whose model is on the disk for good."""

    @property
    def unsynced(self) -> Sequence[Unsynced]:
        """The commits after it."""

    @property
    def after(self) -> Mapping[SiteName, Kept]:
        """Each site's last answer with a state that counts."""

    @property
    def spent(self) -> Mapping[SiteName, Cost]:
        """What all answers of each site took."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""

    @property
    def stopping(self) -> bool:
        """Whether it ends and waits for the last words of its sites."""

    @property
    def flow_waits(self) -> str:
        """What its workflow waits for before it runs; empty: nothing."""

    @property
    def waiting_for(self) -> Sequence[str]:
        """The sites whose answers are awaited now."""


class ReadOnlyState(Protocol):
    """Sites by name, and the jobs that have not ended, or that a site still holds."""

    @property
    def sites(self) -> Mapping[SiteName, ReadOnlySite]:
        """Every site that is or was of the project."""

    @property
    def jobs(self) -> Mapping[JobId, ReadOnlyJob]:
        """The jobs, in the order they came in."""

    @property
    def ended(self) -> Mapping[str, int]:
        """How many jobs have ended and were let go since the start, by how; none: no entry."""

    @property
    def problem(self) -> str:
        """What keeps new work out, in words; empty: nothing."""
