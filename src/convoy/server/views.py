"""From what the machine knows to what the REST API says."""

from __future__ import annotations

import dataclasses
import json

from convoy.admin import views
from convoy.control.questions import DISABLED, PATIENCE, delayed, stuck
from convoy.control.records import Round
from convoy.control.state import LiveJob, LiveSite, State
from convoy.trust import audit
from convoy.trust.federation import Roll


def job_view(job: LiveJob, problem: str) -> views.JobView:
    """Return a job in one line; `round` is the last committed one, `problem` what keeps the server from work."""
    record = job.record
    stands = f"stands still: {problem}" if problem and record.state == "running" else ""
    metrics = next((dict(done.metrics) for done in reversed(job.rounds) if done.metrics), {})
    return views.JobView(
        id=record.id,
        name=record.name,
        state=record.state,
        cause=stands or record.cause or stuck(job) or delayed(job),
        submitter=record.submitter,
        org=record.org,
        submitted_at=record.submitted_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        round=max(job.committed, 0),
        rounds=record.rounds,
        waiting_for=[] if job.over else job.waiting_for,
        metrics=metrics,
        patience_out=record.state == "failed" and PATIENCE in record.cause,
    )


def spec_view(text: str) -> dict[str, object]:
    """Return a job.yaml as it is stored; nothing where that is not readable: the rest of the job is shown."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def member_views(state: State, job: LiveJob) -> list[views.MemberView]:
    """Return the job's sites by name; of a running job's each that is not asked now says why."""
    members = sorted(job.members.values(), key=lambda member: member.site)
    return [
        views.MemberView(
            site=member.site,
            state=member.state,
            reason=DISABLED if not (job.over or state.sites[member.site].enabled) else member.reason,
            missing=dict(state.sites[member.site].missing),
        )
        for member in members
    ]


def round_view(record: Round) -> views.RoundView:
    """Return a round."""
    return views.RoundView(
        round=record.round,
        model=record.model,
        metrics=dict(record.metrics),
        best=record.best,
        took_part=[views.Share(site=site, weight=weight) for site, weight in record.took_part],
        left_out=[views.LeftOut(site=site, reason=reason) for site, reason in record.left_out],
        committed_at=record.committed_at,
    )


def site_view(state: State, site: LiveSite, roll: Roll) -> views.SiteView:
    """Return a site as the server sees it."""
    known = roll.now.participants.get(site.name)
    running = [
        job.record.name
        for job in state.jobs.values()
        if not job.over and site.name in job.members and job.members[site.name].state in ("starting", "ready", "away")
    ]
    return views.SiteView(
        name=site.name,
        org=known.org if known is not None else "",
        connected=site.connected,
        enabled=site.enabled,
        version=site.version,
        seen_at=site.seen_at,
        revoked_at=roll.revoked.get(site.name, 0.0),
        cpu=site.capacity.cpu,
        memory=site.capacity.memory,
        gpu=site.capacity.gpu,
        jobs=running,
        missing=dict(site.missing),
    )


def audit_line(entry: audit.Entry) -> views.AuditLine:
    """Return a record or a checkpoint of the audit trail."""
    said = dataclasses.asdict(entry)
    if isinstance(entry, audit.Record):
        return views.AuditLine(record=views.AuditRecord(**said))
    return views.AuditLine(checkpoint=views.AuditCheckpoint(**said))
