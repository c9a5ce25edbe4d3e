"""What the federation remembers: jobs, their members, questions, tasks and rounds, as frozen records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NewType

JobId = NewType("JobId", str)
SiteName = NewType("SiteName", str)

JOB_ID: Final = re.compile(r"[0-9a-f]{32}")
QUESTION: Final = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")  # the round and the number of the question in it

JobState = Literal["submitted", "running", "ending", "completed", "failed", "aborted"]
MemberState = Literal["starting", "ready", "refused", "away", "ended"]
TaskState = Literal["open", "received", "left_out"]


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
    """One question of a workflow to a cohort: `question` is `<round>.<n>`, the n-th question within the round."""

    job: JobId
    question: str
    kind: str
    round: int
    rounds: int
    model: str
    at_least: int
    cohort: tuple[SiteName, ...]
    deadline_s: float
    max_norm: float
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """A question at one site; its id is (job, question, site), for ever."""

    job: JobId
    question: str
    site: SiteName
    state: TaskState
    digest: str = ""
    weight: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""  # why it was left out
    traceback: str = ""  # the site's traceback


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
