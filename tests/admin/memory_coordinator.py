"""A coordinator in memory: real bundles and rules, jobs that progress by themselves, nothing trained."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from convoy.admin import views
from convoy.admin.changes import MAX_CHANGES, ChangeView, PresenceView, SitePresence
from convoy.admin.port import Grant, Person
from convoy.control.presence import Presence
from convoy.errors import NotFound, Refused
from convoy.server.views import admin_views, audit_line, audit_page
from convoy.spec.job import read_job_document
from convoy.trust import audit
from convoy.trust import bundle as bundles
from convoy.trust.federation import Membership

NEWEST = 100  # rounds in a job's detail
ENDED = ("completed", "failed", "aborted")
TRACEBACK = "at site-2, task 2.1:\nTraceback (most recent call last):\n  ...\nValueError: the scanner is off"


@dataclass
class FakeJob:
    view: views.JobView
    spec: dict
    path: Path
    traceback: str = ""
    rounds: list[views.RoundView] = field(default_factory=list)
    log: list[views.LogLine] = field(default_factory=list)
    points: list[views.PointView] = field(default_factory=list)
    results: dict[str, bytes] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def over(self):
        return self.view.state in ENDED


@dataclass
class Fake:
    """`may_go` holds every job before its next round while it is clear."""

    membership: Membership
    folder: Path
    may_go: asyncio.Event = field(default_factory=asyncio.Event)
    left: list[tuple[str, str, bool]] = field(default_factory=list)
    disabled: set[str] = field(default_factory=set)
    revoked: list[str] = field(default_factory=list)
    kept: dict[str, FakeJob] = field(default_factory=dict)
    running: dict[str, asyncio.Task] = field(default_factory=dict)
    noted: list[tuple[str, str, str, str]] = field(default_factory=list)
    entries: list[audit.Entry] = field(default_factory=list)
    number: int = 0  # of changes
    hearers: set[asyncio.Event] = field(default_factory=set)
    known: Presence = field(default_factory=lambda: Presence(86_400, MAX_CHANGES))
    started_at: float = field(default_factory=lambda: time.time() - 90)

    def __post_init__(self):
        self.may_go.set()
        self.membership.changed.append(self.tell)
        for name in self.membership.now.sites():
            self.known.note(name, self.started_at, "connected")

    def tell(self):
        """Tell everybody who follows the federation that something has changed."""
        self.number += 1
        for event in self.hearers:
            event.set()

    async def changes(self) -> AsyncIterator[ChangeView]:
        event = asyncio.Event()
        self.hearers.add(event)
        try:
            while True:
                event.clear()
                yield ChangeView(number=self.number, at=time.time())
                await event.wait()
        finally:
            self.hearers.discard(event)

    async def submit(self, grant: Grant, bundle: bytes) -> views.JobView:
        return grant.act(lambda person: self._submit(person, bundle))

    def _submit(self, person: Person, bundle: bytes) -> views.JobView:
        checked = bundles.verify(
            bundle, root_pem=self.membership.root_pem, project=self.membership.now.project, now=time.time()
        )
        if checked.id in self.kept:
            return self.kept[checked.id].view
        spec, _ = read_job_document(bytes(checked.files["job.yaml"]).decode(), name="job.yaml")
        path = self.folder / f"{checked.id}.bundle"
        path.write_bytes(bundle)
        view = views.JobView(
            id=checked.id,
            name=spec.name,
            state="submitted",
            cause="",
            submitter=person.name,
            org=person.org,
            submitted_at=time.time(),
            started_at=0,
            ended_at=0,
            round=0,
            rounds=0,
            waiting_for=[],
            waiting=0,
            metrics={},
        )
        job = self.kept[checked.id] = FakeJob(view, json.loads(spec.to_json()), path)
        self.running[checked.id] = asyncio.create_task(self._run(job, spec))
        self.tell()
        return view

    async def _run(self, job, spec):
        sites = [site for site in self.membership.now.sites() if site not in self.disabled]
        total = int(spec.with_.get("rounds", 3))
        await self._change(
            job, state="running", started_at=time.time(), rounds=total, waiting_for=sites, waiting=len(sites)
        )
        for number in range(1, total + 1):
            await self.may_go.wait()
            if spec.config.get("fail_at") == number:
                job.traceback = TRACEBACK
                await self._change(job, state="failed", cause="train failed at site-2", ended_at=time.time())
                return
            if spec.config.get("silent_at") == number:
                said = "no progress for 5 s, the job's patience"
                await self._change(job, state="failed", cause=said, ended_at=time.time(), patience_out=True)
                return
            for site in sites:
                job.log.append(views.LogLine(site=site, text=f"round {number}: loss {1 / number:.3f}"))
                told = {"loss": 1 / number, "accuracy": 1 - 1 / number}
                job.points.append(
                    views.PointView(site=site, number=number - 1, at=time.time(), round=number, values=told)
                )
            metrics = {"loss": 1 / number}
            job.rounds.append(made_round(number, sites, metrics))
            waiting = [] if number == total else sites[-1:]
            await self._change(job, round=number, metrics=metrics, waiting_for=waiting, waiting=len(waiting))
        job.results = {"model.safetensors": bytes(range(256)) * 4096, "logs/site-1.log": b"round 1\n"}
        await self._change(job, state="completed", ended_at=time.time())

    async def _change(self, job, **changes):
        async with job.changed:
            job.view = job.view.model_copy(update=changes)
            job.changed.notify_all()
        self.tell()

    async def jobs(self, *, begins: str = "", meant: str = "", after: str = "", limit: int = 100) -> views.JobPage:
        found = [job.view for job in reversed(self.kept.values())]
        if begins:
            found = [job for job in found if job.name.startswith(begins) or job.id.startswith(begins)]
        if meant:
            found = [job for job in found if job.name == meant or job.id.startswith(meant)]
            found.sort(key=lambda job: (not job.id.startswith(meant), job.state in ENDED))
        start = next((place + 1 for place, job in enumerate(found) if job.id == after), 0)
        page, rest = found[start : start + limit], found[start + limit :]
        return views.JobPage(jobs=page, next=page[-1].id if rest else "")

    async def owner(self, job: str) -> tuple[str, str]:
        view = self._job(job).view
        return view.submitter, view.org

    async def job(self, job: str, *, brief: bool = False) -> views.JobDetail:
        found = self._job(job)
        members = [views.MemberView(site=site, state="ready") for site in self.membership.now.sites()]
        return views.JobDetail(
            job=found.view,
            traceback=found.traceback,
            members=members,
            rounds=[_among(made, []) if brief else made for made in found.rounds[-NEWEST:]],
            spec=found.spec,
            results=sorted(found.results),
        )

    async def rounds(self, job: str, after: int, limit: int, among=()) -> views.RoundPage:
        found = [_among(made, among or made_sites(made)) for made in self._job(job).rounds if made.round > after]
        return views.RoundPage(rounds=found[:limit], more=len(found) > limit)

    async def round(self, job: str, number: int, *, brief: bool = False) -> views.RoundView:
        for made in self._job(job).rounds:
            if made.round == number:
                return made
        raise NotFound(f"there is no round {number}")

    async def watch(self, job: str, after: int) -> AsyncIterator[views.Progress]:
        found, told = self._job(job), 0
        while True:
            view, rounds = found.view, [made for made in found.rounds[told:] if made.round > after]
            told = len(found.rounds)
            yield views.Progress(job=view, rounds=rounds, traceback=found.traceback)
            if view.state in ENDED:
                return
            async with found.changed:
                await found.changed.wait_for(lambda view=view: found.view != view)

    async def logs(self, job: str, site: str | None, follow: bool) -> AsyncIterator[views.LogLine]:
        found, told = self._job(job), 0
        if site not in (None, "server"):
            self._known(site)
        while True:
            over, fresh = found.over, found.log[told:]
            told += len(fresh)
            for line in fresh:
                if site in (None, line.site):
                    yield line
            if over or not follow:
                return
            async with found.changed:
                await found.changed.wait_for(lambda told=told: found.over or len(found.log) > told)

    async def points(
        self, job: str, site: str | None, key: str, after: int, follow: bool
    ) -> AsyncIterator[views.PointView]:
        found, told = self._job(job), 0
        if site not in (None, "server"):
            self._known(site)
        while True:
            over, fresh = found.over, found.points[told:]
            told += len(fresh)
            for point in fresh:
                values = {name: value for name, value in point.values.items() if fnmatchcase(name, key or "*")}
                if site in (None, point.site) and point.number > after and values:
                    yield point.model_copy(update={"values": values})
            if over or not follow:
                return
            async with found.changed:
                await found.changed.wait_for(lambda told=told: found.over or len(found.points) > told)

    async def abort(self, grant: Grant, job: str) -> views.JobView:
        found = self._job(job)
        if found.over:
            raise Refused(f"job {found.view.name} has ended already", why=f"it is {found.view.state}")
        by = grant.act(lambda person: (self.running[job].cancel(), person.name)[1])
        await asyncio.wait({self.running[job]})
        await self._change(found, state="aborted", cause=f"aborted by {by}", ended_at=time.time())
        return found.view

    async def delete(self, grant: Grant, job: str) -> None:
        found = self._job(job)
        if not found.over:
            raise Refused(f"job {found.view.name} has not ended", fix=f"convoy job abort {job[:8]}")
        grant.act(lambda _: self.kept.pop(job))
        self.tell()

    async def bundle(self, job: str) -> AsyncIterator[bytes]:
        yield self._job(job).path.read_bytes()

    async def result(self, job: str, name: str) -> AsyncIterator[bytes]:
        found = self._job(job)
        if name not in found.results:
            raise NotFound(f"job {found.view.name} has no result {name!r}")
        data = found.results[name]
        for start in range(0, len(data), 1 << 16):
            yield data[start : start + (1 << 16)]

    def sites(self) -> list[views.SiteView]:
        return [self._site(name) for name in sorted(self.membership.now.sites())]

    def _known(self, name, kind="site"):
        known = self.membership.now.participants.get(name)
        if known is None or known.kind != kind:
            raise NotFound(f"there is no {kind} {name!r}", fix="convoy site list")

    def _site(self, name):
        return views.SiteView(
            name=name,
            org=self.membership.now.participants[name].org,
            connected=name not in {*self.disabled, *self.revoked},
            enabled=name not in self.disabled,
            version="0",
            seen_at=time.time(),
            revoked_at=time.time() if name in self.revoked else 0.0,
            cpu=2,
            memory=4 << 30,
            gpu=0,
            jobs=[job.view.name for job in self.kept.values() if not job.over],
        )

    async def set_site(self, grant: Grant, site: str, enabled: bool) -> views.SiteView:
        self._known(site)
        grant.act(lambda _: (self.disabled.discard if enabled else self.disabled.add)(site))
        return self._changed(site)

    async def revoke_site(self, grant: Grant, site: str) -> views.SiteView:
        self._known(site)
        grant.act(lambda _: self.revoked.append(site))
        return self._changed(site)

    def _changed(self, site):
        found = self._site(site)
        self.known.note(site, time.time(), found.standing)
        self.tell()
        return found

    def presence(self) -> PresenceView:
        now = time.time()
        found = {name: self.known.of(name, now) for name in sorted(self.known.changes)}
        told = [
            SitePresence(site=name, at=[at for at, _ in changes], standing=[how for _, how in changes])
            for name, changes in found.items()
        ]
        return PresenceView(now=now, since=self.started_at, sites=told)

    async def revoke_admin(self, grant: Grant, admin: str) -> views.Done:
        self._known(admin, "admin")
        grant.act(lambda _: self.revoked.append(admin))
        self.tell()
        return views.Done()

    def status(self) -> views.ServerView:
        return views.ServerView(
            project=self.membership.now.project,
            version="0",
            started_at=self.started_at,
            jobs_running=sum(1 for job in self.kept.values() if not job.over),
            jobs_waiting=0,
            sites_connected=len(self.membership.now.sites()) - len(self.disabled),
            sites_known=len(self.membership.now.sites()),
            problem="",
            disk_free=10 << 30,
            python="3.11",
            platform="Linux",
            memory=100 << 20,
        )

    def problems(self, count: int) -> list[views.LogLine]:
        return [views.LogLine(site="server", text=f"warning {n}") for n in range(3)][-count:]

    async def shutdown(self, grant: Grant, target: str, restart: bool) -> None:
        if target != "server":
            self._known(target)
        grant.act(lambda person: self.left.append((person.name, target, restart)))

    def note(self, actor: str, action: str, thing: str, *, refusal: str = "") -> None:
        self.noted.append((actor, action, thing, refusal))

    async def trail(self, since: int) -> AsyncIterator[views.AuditLine]:
        for entry in self.entries:
            if entry.seq >= since:
                yield audit_line(entry)

    async def records(self, wanted: audit.Search, before: int, limit: int) -> views.AuditPage:
        fits = [it for it in reversed(self.entries) if isinstance(it, audit.Record) and it.seq < before]
        fits = [it for it in fits if _fits(it, wanted)]
        return audit_page(fits[:limit], fits[limit - 1].seq if len(fits) >= limit else 0)

    def people(self) -> list[views.AdminView]:
        found = admin_views(self.membership)
        return [it.model_copy(update={"revoked_at": time.time() * (it.name in self.revoked)}) for it in found]

    def _job(self, job):
        if job not in self.kept:
            raise NotFound(f"there is no job {job!r}", fix="convoy job list")
        return self.kept[job]


def _fits(it, wanted):
    said = [getattr(it, name).lower() for name in ("actor", "action", "object", "outcome")]
    return (
        wanted.actor.lower() in said[0]
        and wanted.action.lower() in ("", said[1])
        and wanted.object.lower() in said[2]
        and said[3].startswith(wanted.outcome.lower())
        and any(wanted.text.lower() in text for text in said)
        and wanted.since <= it.at < wanted.until
    )


def made_sites(made):
    return [it.site for it in (*made.took_part, *made.left_out)]


def _among(made, sites):
    chosen = {name: [it for it in getattr(made, name) if it.site in sites] for name in ("took_part", "left_out")}
    return made.model_copy(update=chosen)


def made_round(number, sites, metrics):
    weights = (30.0 if number == 3 and site == sites[0] else 10.0 for site in sites)
    took = [views.Contribution(site=site, weight=weight) for site, weight in zip(sites, weights, strict=True)]
    took = took[: 1 if number == 2 else None]
    out = [views.LeftOut(site=site, reason="the deadline of 5 s passed") for site in sites[1:] if number == 2]
    return views.RoundView(
        round=number,
        model=f"{number:064x}",
        metrics=metrics,
        best=number == 2,
        took_part=took,
        left_out=out,
        committed_at=time.time(),
        took_part_count=len(took),
        left_out_count=len(out),
    )
