"""Faults: what becomes of a job whose handling at the server fails by an error that nobody foresaw."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from convoy.control import effects
from convoy.control.clock import Now
from convoy.control.state import LiveJob
from convoy.control.transitions import ENDED, move

Effects = Iterator[effects.Effect]

MAX_FAULTS: Final = 3  # of one job, restarts included: then the server does nothing for it any more
SHOWN: Final = 300  # characters of an event in it
MAX_TRACEBACK: Final = 32_000  # characters of a traceback, its end


def supervised(job: LiveJob, work: Effects, now: Now) -> Effects:
    """Yield the effects of a decision about one job; an error in it ends that job, whatever the decision was about."""
    try:
        yield from work
    except Exception as problem:  # noqa: BLE001 - the supervisor of decisions: one job must not end its server
        last = "".join(f"  {at:.3f} {str(event)[:SHOWN]}\n" for at, event in job.happened)
        text = f"the last events of the job (seconds, event):\n{last}{''.join(traceback.format_exception(problem))}"
        yield effects.Note("error", f"a decision about this job failed:\n{text}", job.record.id)
        yield from broken(job, f"{type(problem).__name__}: {problem}", text, now)


def broken(job: LiveJob, error: str, text: str, now: Now) -> Effects:
    """End a job as failed, at once, and keep what it has: nothing that could fail again is done for it."""
    faults = job.record.faults + 1
    cause = f"the server failed at this job: {error}"
    if faults >= MAX_FAULTS:
        cause += f" ({faults} times: it is quarantined)"
    job.record = replace(job.record, faults=faults)
    if job.record.state in ENDED:
        yield effects.Save(job.record, wait=False)
        return
    if job.record.state == "running":
        job.record = move(job.record, "ending")
    job.record = move(
        job.record, "failed", outcome="failed", cause=cause, traceback=text[-MAX_TRACEBACK:], ended_at=now.wall
    )
    job.phase = None
    job.questions.clear()
    job.pending.clear()
    yield effects.Save(job.record)
    yield effects.StopFlow(job.record.id)
    for site, member in job.members.items():
        if member.state != "ended":
            yield effects.SendStop(site, job.record.id, cause)
    yield effects.Sweep(job.record.id, models=False)
