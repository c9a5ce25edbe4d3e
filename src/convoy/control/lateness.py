"""How long a question waits for a site: its deadline, its quorum with a grace, and the job's patience."""

from __future__ import annotations

import math
from typing import Final

from convoy.control.clock import Now
from convoy.control.records import Member, SiteName
from convoy.control.state import LiveJob, OpenQuestion

PATIENCE: Final = "the job's patience"  # in these words a cause says that it ran out
DEADLINE: Final = "the round's deadline"  # and in these
QUORUM: Final = "sites had answered, the quorum"


def late(job: LiveJob, question: OpenQuestion, site: SiteName, now: Now) -> str:
    """Return why a site is not waited for any longer; nothing while it is."""
    record, patience = question.record, job.needs.patience_s
    if site in question.unsent:
        return ""
    if record.deadline_s and now.mono >= question.asked_at + record.deadline_s:
        return f"no answer within {DEADLINE} of {record.deadline_s:g} s"
    if now.mono >= question.quorum_at:
        return f"no answer within {record.grace_s:g} s after {record.quorum} {QUORUM}"
    if now.mono < _last(job, question, site) + patience:
        return ""
    quiet, waits = f"for {patience:g} s, {PATIENCE}", job.members[site].reason
    reason = f"{absent(job.members[site])}; so {quiet}" if refuses(job, site) else f"no progress {quiet}"
    return f"{reason}; {waits}" if waits and job.members[site].state in ("starting", "ready") else reason


def shift(job: LiveJob, seconds: float, now: Now) -> None:
    """Move what the job's sites are measured by: for so long nobody could get an answer through."""
    for waiting in job.pending.values():
        waiting.since = min(waiting.since + seconds, now.mono)
    for site, seen in job.seen.items():
        job.seen[site] = min(seen + seconds, now.mono)
    for question in job.questions.values():
        question.asked_at = min(question.asked_at + seconds, now.mono)
        question.quorum_at += seconds
        question.wake = next_wake(job, question)


def next_wake(job: LiveJob, question: OpenQuestion) -> float:
    """Return when somebody may be late, on the machine's clock; nobody is whose task waits for its model."""
    quiet = [_last(job, question, site) for site in question.awaited if site not in question.unsent]
    return min(_deadline(question), min(quiet) + job.needs.patience_s) if quiet else math.inf


def _deadline(question: OpenQuestion) -> float:
    limit = question.asked_at + question.record.deadline_s if question.record.deadline_s else math.inf
    return min(limit, question.quorum_at)


def _last(job: LiveJob, question: OpenQuestion, site: SiteName) -> float:
    return max(question.asked_at, job.seen.get(site, question.asked_at))


def absent(member: Member) -> str:
    """Return why a member was not asked."""
    match member.state:
        case "refused":
            return f"refused the job: {member.reason}"
        case "away":
            return member.reason or "away"
        case _:
            return "not asked in this round"


def refuses(job: LiveJob, site: SiteName) -> bool:
    """Whether a member has refused the job."""
    return job.members[site].state == "refused"
