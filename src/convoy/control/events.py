"""What happens to a federation, as values: the only input of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from convoy.control.records import Answer, Job, JobId, Question, SiteName, Spread


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a site can give to jobs: cores, bytes, devices."""

    cpu: float
    memory: int
    gpu: float


@dataclass(frozen=True, slots=True)
class Submitted:
    """A verified and checked job came in."""

    job: Job


@dataclass(frozen=True, slots=True)
class SiteJoined:
    """A site opened its stream; `holds` are the jobs that it still has, `missing` what jobs are not isolated from."""

    site: SiteName
    capacity: Capacity
    version: str
    holds: frozenset[str]
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteLeft:
    """A site's stream ended."""

    site: SiteName


@dataclass(frozen=True, slots=True)
class SiteSwitched:
    """An admin enabled or disabled a site."""

    site: SiteName
    enabled: bool


@dataclass(frozen=True, slots=True)
class SiteRevoked:
    """An admin took a site's certificates back."""

    site: SiteName


@dataclass(frozen=True, slots=True)
class SitesListed:
    """There is a newer federation.json: these are its sites."""

    sites: frozenset[SiteName]


@dataclass(frozen=True, slots=True)
class MemberReady:
    """The job's trainer at a site takes tasks."""

    job: JobId
    site: SiteName


@dataclass(frozen=True, slots=True)
class MemberWaits:
    """A site's worker waits for something before it runs, such as a machine with a GPU; empty: for nothing any more."""

    job: JobId
    site: SiteName
    why: str


@dataclass(frozen=True, slots=True)
class FlowWaits:
    """A job's workflow waits for something before it runs; empty: for nothing any more."""

    job: JobId
    why: str


@dataclass(frozen=True, slots=True)
class MemberRefused:
    """A site will not run the job."""

    job: JobId
    site: SiteName
    reason: str


@dataclass(frozen=True, slots=True)
class MemberStopped:
    """Nothing of the job is left at the site."""

    job: JobId
    site: SiteName


@dataclass(frozen=True, slots=True)
class Asked:
    """The workflow asks a cohort, which is not drawn yet."""

    question: Question

    @property
    def job(self) -> JobId:
        """The job whose workflow asks."""
        return self.question.job


class Answered(NamedTuple):
    """A site's answer is whole, verified and on the disk (or has no arrays). A tuple, as in `effects`."""

    job: JobId
    site: SiteName
    answer: Answer


@dataclass(frozen=True, slots=True)
class Unusable:
    """A site's answer was refused, or its trainer failed; `traceback` is the traceback if there is one."""

    job: JobId
    question: str
    site: SiteName
    reason: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Unsent:
    """A task was not sent, because the disk has lost the model that it is about."""

    job: JobId
    question: str
    site: SiteName


@dataclass(frozen=True, slots=True)
class Lost:
    """The disk no longer has a received update."""

    job: JobId
    question: str
    site: SiteName


@dataclass(frozen=True, slots=True)
class Progressed:
    """A site moved bytes for a job, or its trainer works."""

    job: JobId
    site: SiteName


@dataclass(frozen=True, slots=True)
class CommitAsked:
    """The workflow commits a round's model, which need not be on the disk for good yet."""

    job: JobId
    round: int
    model: str
    metrics: Mapping[str, float]
    best: bool
    left_out: Mapping[str, str] = field(default_factory=dict)  # why the workflow did not count a site's answer
    state: str = ""  # the digest of the workflow's own state; empty: none
    folded: tuple[str, ...] = ()  # questions that outlive their rounds and whose answers are part of this one
    spread: Mapping[str, Spread] = field(default_factory=dict)  # how the update of each site lies to the fold of all


@dataclass(frozen=True, slots=True)
class ModelSynced:
    """The committed model of a round is on the disk for good."""

    job: JobId
    round: int


@dataclass(frozen=True, slots=True)
class FlowDone:
    """The workflow returned."""

    job: JobId


@dataclass(frozen=True, slots=True)
class FlowFailed:
    """The workflow raised."""

    job: JobId
    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class FlowDied:
    """The workflow's process ended without a word, or, `full`, for want of room on the disk."""

    job: JobId
    how: str
    traceback: str = ""
    full: bool = False


@dataclass(frozen=True, slots=True)
class ResultsKept:
    """The job's results are in the object store."""

    job: JobId
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AbortAsked:
    """A person ends the job."""

    job: JobId
    by: str


@dataclass(frozen=True, slots=True)
class DeleteAsked:
    """A person forgets an ended job."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that the server does for this job raised an error that is not the job's: `error` is one line."""

    job: JobId
    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Retired:
    """The records of an ended job are durable, and nobody holds it: it need not be known any more."""

    job: JobId


@dataclass(frozen=True, slots=True)
class StorageChanged:
    """The server's disk is full (in words), or has room again (empty)."""

    problem: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The machine's own next wake-up has come."""


OfJob = (  # what has a rule in `reactions`; the first one is the most frequent
    Answered
    | Asked
    | Unusable
    | Unsent
    | Lost
    | Progressed
    | MemberReady
    | MemberRefused
    | MemberWaits
    | FlowWaits
    | MemberStopped
    | CommitAsked
    | ModelSynced
    | FlowDone
    | FlowFailed
    | FlowDied
    | ResultsKept
    | AbortAsked
    | Broken
)

OfAll = (  # what changes the federation, or which jobs there are
    Submitted
    | SiteJoined
    | SiteLeft
    | SiteSwitched
    | SiteRevoked
    | SitesListed
    | StorageChanged
    | TimePassed
    | Retired
    | DeleteAsked
)

Event = OfJob | OfAll
