"""What the machine wants done, as values: records to keep, then words to say once they are durable.

Answers do not wait (`AT_ONCE`): what could take the records back takes the workflow that heard them, too, and its
commit waits for all records before it.

Effects of which each answer has one are tuples: a frozen dataclass takes several times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from convoy.control.records import Job, JobId, Member, Question, Round, SiteName, Task


class Save(NamedTuple):
    """Keep a record. With `wait`, the effects that follow it wait until it is durable."""

    record: Job | Member | Question | Task | Round
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove every record and file of a job."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Retire:
    """Say `Retired` once all records of an ended job are durable: from then on the ledger alone knows of it."""

    job: JobId


@dataclass(frozen=True, slots=True)
class SendStart:
    """Tell a site to run the job."""

    site: SiteName
    job: JobId


class SendTask(NamedTuple):
    """Give a site its task of a question."""

    site: SiteName
    question: Question
    after: str = ""  # the question whose answer was the site's last with a state that counts


@dataclass(frozen=True, slots=True)
class SendStop:
    """Tell a site that the job is over there; `finish_s`: how long its trainer may work on after its last task."""

    site: SiteName
    job: JobId
    reason: str
    finish_s: float = 0.0


class SendReceipt(NamedTuple):
    """Tell a site that its update counts."""

    site: SiteName
    job: JobId
    question: str
    digest: str


@dataclass(frozen=True, slots=True)
class SendReject:
    """Tell a site that its update does not count, for good."""

    site: SiteName
    job: JobId
    question: str
    reason: str


@dataclass(frozen=True, slots=True)
class SendCancel:
    """Tell a site that nobody waits for its task any more."""

    site: SiteName
    job: JobId
    question: str


class SendCommitted(NamedTuple):
    """Tell a site that it may forget its answers up to a round, and those to `folded`, and which state stays."""

    site: SiteName
    job: JobId
    round: int
    folded: tuple[str, ...] = ()
    after: str = ""


@dataclass(frozen=True, slots=True)
class RunFlow:
    """Start the job's workflow from its last committed round."""

    job: JobId


@dataclass(frozen=True, slots=True)
class RestartFlow:
    """End the job's workflow process and start it anew from its last committed round; hear nothing of the old one."""

    job: JobId


@dataclass(frozen=True, slots=True)
class StopFlow:
    """End the job's workflow process."""

    job: JobId


class TellAnswer(NamedTuple):
    """Give the workflow one site's answer, or why there is none."""

    task: Task


@dataclass(frozen=True, slots=True)
class TellEnd:
    """Tell the workflow that a question has no more answers; `error` if too few sites answered."""

    job: JobId
    question: str
    error: str


@dataclass(frozen=True, slots=True)
class TellCommitted:
    """Tell the workflow that its commit is durable."""

    job: JobId
    round: int


@dataclass(frozen=True, slots=True)
class SyncModel:
    """Bring the round's model and state to the disk for good, then say `ModelSynced`.

    So it does with the `best` model, if that is of an earlier round of which nobody has said so yet.
    """

    job: JobId
    round: int
    model: str
    state: str = ""
    best: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """Let every holder of the job's blobs go that needs them no more (`holders.stays`)."""

    job: JobId


@dataclass(frozen=True, slots=True)
class KeepResults:
    """Put the job's results into the object store, then say `ResultsKept`."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Sweep:
    """Remove the job's working files, and with `models` the blobs too; its results and records stay."""

    job: JobId
    models: bool = True


@dataclass(frozen=True, slots=True)
class TakeUp:
    """The disk has room again: go on with the updates that waited for it."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A site sent another body for a task that it had answered: it does not count, and the audit trail says so."""

    site: SiteName
    job: JobId
    question: str


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the server's log, and which job and site it is about, if any."""

    level: str
    text: str
    job: str = ""
    site: str = ""


Effect = (
    Save
    | Forget
    | Retire
    | SendStart
    | SendTask
    | SendStop
    | SendReceipt
    | SendReject
    | SendCancel
    | SendCommitted
    | RunFlow
    | RestartFlow
    | StopFlow
    | TellAnswer
    | TellEnd
    | TellCommitted
    | SyncModel
    | Release
    | KeepResults
    | Sweep
    | TakeUp
    | Conflict
    | Note
)

AT_ONCE = (TellAnswer, TellEnd)
