"""What has happened in a job, in sentences: from its rounds, and from what differs between two looks at it; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from convoy.admin.views import JobDetail, JobView, MemberView, RoundView
from convoy.dashboard.rendering import number
from convoy.errors import by_reason
from convoy.spec import cross_metrics

MAX_ENTRIES: Final = 200  # of a feed, newest first
MAX_METRICS: Final = 6  # of a round that its sentence names
ENDS: Final = {"completed": "good", "failed": "bad", "aborted": "warn"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened at a time (seconds since the epoch); `mark` colours it, `round` is where to read more."""

    at: float
    mark: str
    text: str
    round: int = 0


def entries(detail: JobDetail, noticed: Iterable[Entry] = ()) -> list[Entry]:
    """Return what has happened, newest first: of the rounds those that the detail has, and what was noticed."""
    found = [*_of_job(detail.job), *noticed]
    for made in detail.rounds:
        found += _of_round(made, detail.job.rounds)
    return sorted(found, key=lambda it: it.at, reverse=True)[:MAX_ENTRIES]


def _of_job(job: JobView) -> Iterator[Entry]:
    yield Entry(job.submitted_at, "idle", f"{job.submitter} submitted the job.")
    if job.started_at:
        yield Entry(job.started_at, "busy", "The job started.")
    if job.ended_at:
        cause = f": {job.cause}" if job.cause else "."
        yield Entry(job.ended_at, ENDS.get(job.state, "idle"), f"The job is {job.state}{cause}")


def _of_round(made: RoundView, rounds: int) -> Iterator[Entry]:
    name = f"Round {made.round}" + (f" of {rounds}" if rounds else "")
    if made.round and made.model:
        plain = [(key, value) for key, value in made.metrics.items() if not cross_metrics.NAME.fullmatch(key)]
        told = ", ".join(f"{key} {number(value)}" for key, value in plain[:MAX_METRICS])
        told += f" and {len(plain) - MAX_METRICS} more metrics" if len(plain) > MAX_METRICS else ""
        took = f" {_sites(made.took_part_count)} took part." if made.took_part_count else ""
        best = " It is the best so far." if made.best else ""
        text = f"{name} was committed{': ' + told if told else ''}.{took}{best}"
        yield Entry(made.committed_at, "good" if made.best else "busy", text, made.round)
    elif made.round:
        yield Entry(made.committed_at, "warn", f"{name} was not committed.", made.round)
    reasons = by_reason((out.site, out.reason) for out in made.left_out)
    if more := made.left_out_count - len(made.left_out):
        reasons.append(f"{more} more sites")
    for reason in reasons:
        yield Entry(made.committed_at, "warn", f"Left out of round {made.round}: {reason}", made.round)


def _sites(count: int) -> str:
    return "1 site" if count == 1 else f"{count:,} sites"


def changes(before: JobDetail, now: JobDetail, at: float) -> Iterator[Entry]:
    """Yield what differs between two looks at a job: sites that went away, came back or refused, and what it waits for.

    What the rounds and the job's times tell already is left out.
    """
    known = {member.site: member for member in before.members}
    for member in now.members:
        old = known.get(member.site)
        if old is None:
            yield Entry(at, "idle", f"{member.site} joined the job.")
        elif (old.state, old.reason) != (member.state, member.reason) and (text := _moved(old, member)):
            yield Entry(at, "warn" if member.state in ("away", "refused") else "idle", text)
    job = now.job
    if job.cause and job.cause != before.job.cause and not job.ended_at:
        yield Entry(at, "warn", f"The job waits: {job.cause}")


def _moved(old: MemberView, new: MemberView) -> str:
    """Return a sentence about a site whose state or reason has changed; empty where there is nothing to say."""
    why = f": {new.reason}" if new.reason else "."
    if new.state == old.state:
        return f"{new.site} waits{why}" if new.reason and new.state in ("starting", "ready") else ""
    match new.state:
        case "away":
            return f"{new.site} is away{why}"
        case "refused":
            return f"{new.site} refused the job{why}"
        case "ready":
            return f"{new.site} is back." if old.state == "away" else f"{new.site} is ready."
        case "ended":
            return ""
    return f"{new.site} is {new.state}{why}"
