"""Converts the state machine's records to the views of the REST API."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from convoy.admin import views
from convoy.control.clock import Now
from convoy.control.costs import Cost
from convoy.control.lateness import PATIENCE
from convoy.control.points import Point
from convoy.control.questions import DISABLED, delayed, stuck
from convoy.control.records import Job, Kept, Member, Round, SiteName
from convoy.control.view import ReadOnlyJob, ReadOnlySite, ReadOnlyState
from convoy.server.hub import Line
from convoy.store.history import Listed
from convoy.trust import audit
from convoy.trust.federation import Membership

SHOWN_SITES: Final = 100  # sites of each round in a list of rounds
SHOWN_NEWEST: Final = 20  # sites of each of the newest rounds that the detail of a job has
SHOWN_WAITING: Final = 20  # sites that a job waits for, in one line
SHOWN_CAUSE: Final = 4096  # characters of a job's cause, in which each of a thousand sites may have its reason


def job_view(job: ReadOnlyJob, problem: str) -> views.JobView:
    """Return a job in one line; `problem` is what keeps the server from work."""
    record = job.record
    stands = f"paused: {problem}" if problem and record.state == "running" else ""
    cause = stands or record.cause or stuck(job) or delayed(job)
    metrics = {} if job.last is None else dict(job.last.metrics)
    waiting = [] if job.over else job.waiting_for
    return _line(record, cause=cause, round_=job.committed, metrics=metrics, waiting=waiting)


def listed_view(listed: Listed) -> views.JobView:
    """Return an ended job, which only the ledger has, in one line."""
    return _line(listed.job, cause=listed.job.cause, round_=listed.round, metrics=listed.metrics, waiting=[])


def _line(record: Job, *, cause: str, round_: int, metrics: dict[str, float], waiting: Sequence[str]) -> views.JobView:
    return views.JobView(
        id=record.id,
        name=record.name,
        state=record.state,
        cause=cause if len(cause) <= SHOWN_CAUSE else f"{cause[:SHOWN_CAUSE]}…",
        submitter=record.submitter,
        org=record.org,
        submitted_at=record.submitted_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        round=max(round_, 0),
        rounds=record.rounds,
        waiting_for=list(waiting[:SHOWN_WAITING]),
        waiting=len(waiting),
        metrics=metrics,
        patience_out=record.state == "failed" and PATIENCE in record.cause,
    )


def member_views(
    state: ReadOnlyState,
    members: Iterable[Member],
    *,
    over: bool,
    kept: Mapping[SiteName, Kept],
    spent: Mapping[SiteName, Cost],
) -> list[views.MemberView]:
    """Return a job's sites by name; while it runs, each site that is not asked now has the reason."""
    return [
        views.MemberView(
            site=member.site,
            state=member.state,
            reason=member.reason if over or site is None or site.enabled else DISABLED,
            missing={} if site is None else dict(site.missing),
            state_bytes=kept[member.site].size if member.site in kept else 0,
            cost=cost_view(spent.get(member.site)),
        )
        for member in sorted(members, key=lambda member: member.site)
        for site in [state.sites.get(member.site)]  # of an old job it may have left since
    ]


def point_view(site: str, point: Point) -> views.PointView:
    """Return a point of a site's live metrics."""
    return views.PointView(
        site=site,
        number=point.number,
        at=point.at,
        round=point.round,
        step=point.step,
        phase=point.phase,
        values=dict(point.values),
    )


def cost_view(cost: Cost | None) -> views.CostView | None:
    """Return what answers took, if anything is known of it."""
    return None if cost is None else views.CostView(**cost.plain())


def _spread(record: Round, site: str) -> dict[str, float]:
    found = record.spread.get(site)
    return {} if found is None else {"norm": found.norm, "cosine": found.cosine}


def open_views(job: ReadOnlyJob, now: Now) -> list[views.OpenView]:
    """Return the questions of a job that not all have answered, oldest first."""
    waiting = [it for it in job.questions.values() if it.awaited and not it.ended]
    return [
        views.OpenView(
            question=question.record.id,
            kind=question.record.kind,
            round=question.record.round,
            asked_at=now.wall - (now.mono - question.asked_at),
            answered=question.counts.get("received", 0),
            left_out=question.counts.get("left_out", 0),
            waiting=len(question.awaited),
            waiting_for=sorted(question.awaited)[:SHOWN_SITES],
        )
        for question in waiting[:SHOWN_WAITING]
    ]


def round_view(
    record: Round,
    *,
    sites: int = SHOWN_SITES,
    among: Collection[str] = (),
    costs: Mapping[SiteName, Cost] = MappingProxyType({}),
) -> views.RoundView:
    """Return a round with at most so many of its sites, those `among` some; `costs`: what their answers took."""
    took = [it for it in record.took_part if it[0] in among] if among else record.took_part
    out = [it for it in record.left_out if it[0] in among] if among else record.left_out
    return views.RoundView(
        round=record.round,
        model=record.model,
        metrics=dict(record.metrics),
        best=record.best,
        took_part=[
            views.Contribution(
                site=site, weight=weight, **_spread(record, site), cost=cost_view(costs.get(SiteName(site)))
            )
            for site, weight in took[:sites]
        ],
        left_out=[views.LeftOut(site=site, reason=reason, **_spread(record, site)) for site, reason in out[:sites]],
        committed_at=record.committed_at,
        took_part_count=len(record.took_part),
        left_out_count=len(record.left_out),
    )


def site_view(state: ReadOnlyState, site: ReadOnlySite, membership: Membership, line: Line | None) -> views.SiteView:
    """Return a site as the server sees it; `line` is its open connection."""
    known = membership.now.participants.get(site.name)
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
        revoked_at=membership.revoked.get(site.name, 0.0),
        cpu=site.capacity.cpu,
        memory=site.capacity.memory,
        gpu=site.capacity.gpu,
        jobs=running,
        missing=dict(site.missing),
        certificate_ends_at=line.certificate_ends_at if line else 0.0,
        renews_at=line.renews_at if line else 0.0,
    )


def admin_views(membership: Membership) -> list[views.AdminView]:
    """Return everybody who may log in, by name."""
    return [
        views.AdminView(name=name, org=who.org, role=who.role, revoked_at=membership.revoked.get(name, 0.0))
        for name, who in sorted(membership.now.participants.items())
        if who.kind == "admin"
    ]


def audit_page(records: Sequence[audit.Record], after: int) -> views.AuditPage:
    """Return records, newest first; `after` is where older ones continue."""
    return views.AuditPage(records=[views.AuditRecord(**dataclasses.asdict(it)) for it in records], next=after)


def audit_line(entry: audit.Entry) -> views.AuditLine:
    """Return a record or a checkpoint of the audit trail."""
    said = dataclasses.asdict(entry)
    if isinstance(entry, audit.Record):
        return views.AuditLine(record=views.AuditRecord(**said))
    return views.AuditLine(checkpoint=views.AuditCheckpoint(**said))
