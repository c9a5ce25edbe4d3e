"""What people may ask of this server: the coordinator behind the REST API."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convoy.admin import views
from convoy.admin.port import Person
from convoy.control import events
from convoy.control.records import Job, JobId, SiteName
from convoy.control.state import LiveJob, LiveSite
from convoy.errors import NotFound, Refused, StorageFull
from convoy.flows.check import check_job
from convoy.server.auditor import Auditor
from convoy.server.files import Workspace
from convoy.server.hub import Hub
from convoy.server.logs import JobLogs, pages
from convoy.server.loop import Loop
from convoy.server.results import Results
from convoy.server.views import audit_line, job_view, member_views, round_view, site_view
from convoy.spec.job import read_job_document, text_of
from convoy.store.ledger import Switched, Withdrawn
from convoy.trust import bundle as bundles
from convoy.trust.federation import Roll
from convoy.wire import convoy_pb2 as pb
from convoy.worker.node import Ending, Notes


@dataclass(slots=True)
class Desk:
    """Implements `admin.port.Coordinator` over the loop."""

    loop: Loop
    audit: Auditor
    workspace: Workspace
    hub: Hub
    results: Results
    roll: Roll
    version: str
    logs_of: Callable[[str], JobLogs]
    expel: Callable[[SiteName], None]  # cut every connection of a site
    notes: Notes
    ending: Ending
    log: Any  # a structlog logger
    started_at: float = field(default_factory=time.time)
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def submit(self, person: Person, bundle: bytes) -> views.JobView:
        """Verify, check and keep a bundle; sending the same bundle again returns the same job."""
        problem = self.loop.check_room()
        if problem:
            raise StorageFull(
                "the server takes no new jobs now",
                why=problem,
                fix="make room on the server's disk, or delete jobs that have ended: convoy job delete JOB",
            )
        async with self._taking:  # the same bundle may come twice, when a connection breaks
            record = await asyncio.to_thread(self._take, person, bundle)
            self.log.info("submitted", by=person.name, job=record.id, name=record.name)
            if record.id not in self.loop.machine.state.jobs:
                self._did(person, "submit", f"job:{record.id}", f"accepted: {record.name}")
            self.loop.post(events.Submitted(record))
        await self.loop.settled()
        return self._view(self._job(record.id))

    def _take(self, person: Person, data: bytes) -> Job:
        checked = bundles.verify(data, root_pem=self.roll.root_pem, project=self.roll.now.project, now=time.time())
        if checked.submitter != person.name:
            raise Refused(
                "the bundle was signed by somebody else",
                why=f"you are {person.name}, it says {checked.submitter}",
                fix="submit it with the kit that signed it",
            )
        spec, document = read_job_document(text_of(checked.files), name="job.yaml")
        if (None if checked.sites is None else set(checked.sites)) != (None if spec.sites is None else set(spec.sites)):
            raise Refused(
                "the bundle is signed for other sites than its job.yaml names",
                why=f"signed: {_named(checked.sites)}; named: {_named(spec.sites)}",
                fix="submit the job folder again",
            )
        check_job(spec, document, checked.files, self.roll.now.sites(), self._room())
        files = self.workspace.job(checked.id)
        if JobId(checked.id) not in self.loop.machine.state.jobs:  # sent again, it lies there already, or has ended
            try:
                files.make(data)
                for old in (draft := files.folder / "code.tmp", files.code):
                    shutil.rmtree(old, ignore_errors=True)
                bundles.unpack(checked, draft)
                draft.replace(files.code)
            except StorageFull:
                files.remove()
                raise
        return Job(
            id=JobId(checked.id),
            name=spec.name,
            submitter=person.name,
            org=person.org,
            bundle=checked.digest,
            size=len(data),
            spec=spec.to_json(),
            state="submitted",
            cause="",
            submitted_at=time.time(),
        )

    def _room(self) -> dict[str, tuple[float, float, float]]:
        """Return what each connected site can give to jobs in all; one that is away may come back with more."""
        there = [site for site in list(self.loop.machine.state.sites.values()) if site.connected]
        return {site.name: (site.capacity.cpu, site.capacity.memory, site.capacity.gpu) for site in there}

    def jobs(self) -> list[views.JobView]:
        """Return every job, newest first."""
        found = sorted(self.loop.machine.state.jobs.values(), key=lambda job: -job.record.submitted_at)
        return [self._view(job) for job in found]

    async def job(self, job: str) -> views.JobDetail:
        """Return one job in full."""
        found = self._job(job)
        return views.JobDetail(
            job=self._view(found),
            story=found.record.story,
            members=member_views(self.loop.machine.state, found),
            rounds=[round_view(record) for record in found.all_rounds],
            spec=json.loads(found.record.spec),
            results=await self.results.names(job) if found.over else [],
        )

    async def watch(self, job: str) -> AsyncIterator[views.Progress]:
        """Yield the job at once and after each change, until it has ended."""
        found = self._job(job)
        event = asyncio.Event()
        leave = self.loop.subscribe(job, event)
        told, said = 0, None
        try:
            while True:
                event.clear()
                over, rounds = found.over, found.all_rounds[told:]
                told += len(rounds)
                now = views.Progress(
                    job=self._view(found), rounds=[round_view(record) for record in rounds], story=found.record.story
                )
                if rounds or now != said:  # much happens to a job that nobody sees
                    yield now
                said = now
                if over:
                    return
                await event.wait()
        finally:
            leave()

    async def logs(self, job: str, site: str | None, follow: bool) -> AsyncIterator[views.LogLine]:
        """Yield the job's log lines; with `follow`, until the job has ended."""
        found = self._job(job)
        if site is not None and site != "server" and site not in self.loop.machine.state.sites:
            raise self._no_site(site)
        logs = self.logs_of(job)
        if follow:
            async for name, line in logs.follow(site, lambda: found.over):
                yield views.LogLine(site=name, text=line)
        else:
            found_pages = pages(logs.lines(site))
            while page := await asyncio.to_thread(next, found_pages, ()):
                for name, line in page:
                    yield views.LogLine(site=name, text=line)

    async def abort(self, person: Person, job: str) -> views.JobView:
        """End a job; returns when nothing of it runs any more. Raises `Refused` if it has ended already."""
        found = self._job(job)
        self.log.info("abort asked", by=person.name, job=job)
        if found.over:
            raise Refused(
                f"job {found.record.name} has ended already",
                why=f"it is {found.record.state}",
                fix=f"see how: convoy job show {job[:8]}; forget it: convoy job delete {job[:8]}",
            )
        event = asyncio.Event()
        leave = self.loop.subscribe(job, event)
        try:
            self._did(person, "abort", f"job:{job}")
            self.loop.post(events.AbortAsked(found.record.id, person.name))
            while not found.over:
                event.clear()
                await event.wait()
        finally:
            leave()
        await self.loop.settled()
        return self._view(found)

    async def delete(self, person: Person, job: str) -> None:
        """Forget an ended job and its results. Raises `Refused` while it runs."""
        found = self._job(job)
        if not found.over:
            raise Refused(
                f"job {found.record.name} has not ended",
                why=f"it is {found.record.state}",
                fix=f"convoy job abort {job[:8]}",
            )
        self.log.info("delete", by=person.name, job=job)
        self._did(person, "delete", f"job:{job}")
        await self.results.remove(job)
        self.loop.post(events.DeleteAsked(found.record.id))
        await self.loop.settled()

    def bundle(self, job: str) -> Path:
        """Return the file of the job's bundle as it was submitted."""
        self._job(job)
        return self.workspace.job(job).bundle

    async def result(self, job: str, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of one result file, by its name in `JobDetail.results`."""
        self._job(job)
        if name not in await self.results.names(job):
            raise NotFound(f"job {job[:8]} left no {name!r}", fix=f"see what it left: convoy job show {job[:8]}")
        async for chunk in self.results.read(job, name):
            yield chunk

    def sites(self) -> list[views.SiteView]:
        """Return every site of the project, by name."""
        state = self.loop.machine.state
        listed = [site for site in state.sites.values() if site.listed]
        return [site_view(state, site, self.roll) for site in sorted(listed, key=lambda site: site.name)]

    async def set_site(self, person: Person, site: str, enabled: bool) -> views.SiteView:
        """Let a site take part, or not. Raises `NotFound` for an unknown site."""
        known = self._site(site)
        self.log.info("site switched", by=person.name, site=site, enabled=enabled)
        self._did(person, "enable" if enabled else "disable", f"site:{site}")
        self.loop.keep(Switched(site, enabled, self.roll.revoked.get(site, 0.0)))
        self.loop.post(events.SiteSwitched(known.name, enabled))
        await self.loop.settled()
        if not enabled:
            self.expel(known.name)
        return site_view(self.loop.machine.state, known, self.roll)

    async def revoke_site(self, person: Person, site: str) -> views.SiteView:
        """Let nothing count that a site was certified for so far. Raises `NotFound` for an unknown site."""
        known = self._site(site)
        self.log.info("site revoked", by=person.name, site=site)
        self._did(person, "revoke", f"site:{site}")
        self.take_back(site, time.time())
        self.loop.post(events.SiteRevoked(known.name))
        await self.loop.settled()
        self.expel(known.name)
        return site_view(self.loop.machine.state, known, self.roll)

    async def revoke_admin(self, person: Person, admin: str) -> views.Done:
        """Let nobody log in with what a person was certified for so far. Raises `NotFound` for an unknown person."""
        known = self.roll.now.participants.get(admin)
        if known is None or known.kind != "admin":
            raise NotFound(f"{admin} is no admin of {self.roll.now.project}", fix="its admins are those of project.yml")
        self.log.info("admin revoked", by=person.name, admin=admin)
        self._did(person, "revoke", f"admin:{admin}")
        self.take_back(admin, time.time())
        await self.loop.settled()
        return views.Done()

    def take_back(self, name: str, now: float) -> None:
        """Let no certificate and no open invitation that somebody got so far be good, now and after a restart."""
        site = self.loop.machine.state.sites.get(SiteName(name))
        self.roll.revoked[name] = now
        self.loop.keep(Switched(name, site.enabled if site else True, now))
        self.loop.keep(Withdrawn(name))

    def _site(self, site: str) -> LiveSite:
        known = self.loop.machine.state.sites.get(SiteName(site))
        if known is None or not known.listed:
            raise self._no_site(site)
        return known

    def status(self) -> views.ServerView:
        """Return the server in one look."""
        self.loop.check_room()
        state = self.loop.machine.state
        states = [job.record.state for job in state.jobs.values()]
        return views.ServerView(
            project=self.roll.now.project,
            version=self.version,
            started_at=self.started_at,
            jobs_running=sum(1 for found in states if found in ("running", "ending")),
            jobs_waiting=states.count("submitted"),
            sites_connected=len(self.hub.lines),
            sites_known=len(self.roll.now.sites()),
            problem=state.problem,
            disk_free=shutil.disk_usage(self.workspace.folder).free,
            python=platform.python_version(),
            platform=platform.platform(terse=True),
            memory=resident_bytes(),
        )

    def problems(self, count: int) -> list[views.LogLine]:
        """Return the newest warnings and errors of the server, oldest first."""
        return [views.LogLine(site="server", text=text) for text in list(self.notes.newest)[-count:]]

    async def shutdown(self, person: Person, target: str, restart: bool) -> None:
        """Stop (or restart) the server ("server") or a site by name, after a drain."""
        self.log.info("shutdown asked", by=person.name, target=target, restart=restart)
        action = "restart" if restart else "stop"
        if target == "server":
            self._did(person, action, "server")
            self.ending.ask(restart=restart)
        elif target in self.hub.lines:
            self._did(person, action, f"site:{target}")
            self.hub.send(target, pb.Down(leave=pb.Leave(restart=restart)))
        elif target in self.loop.machine.state.sites:
            raise Refused(f"{target} is not connected", fix=f"start it where it lives: convoy run KIT of {target}")
        else:
            raise self._no_site(target)

    def note(self, actor: str, action: str, thing: str, *, refusal: str = "") -> None:
        """Write into the audit trail what the REST API did, or refused, by itself."""
        if refusal:
            self.audit.note_some(actor, action, thing, f"refused: {refusal}")
        else:
            self.audit.note(actor, action, thing)

    async def trail(self, since: int) -> AsyncIterator[views.AuditLine]:
        """Yield the audit trail from record `since` on, each record followed by its checkpoint if it has one."""
        async for entry in self.audit.trail(since):
            yield audit_line(entry)

    def _did(self, person: Person, action: str, thing: str, outcome: str = "done") -> None:
        self.audit.note(person.actor, action, thing, outcome)

    def _no_site(self, site: str) -> NotFound:
        listed = ", ".join(self.roll.now.sites()) or "none"
        why = f"federation.json number {self.roll.now.number} lists: {listed}"
        return NotFound(f"there is no site {site!r}", why=why, fix="convoy site list")

    def _view(self, job: LiveJob) -> views.JobView:
        return job_view(job, self.loop.machine.state.problem)

    def _job(self, job: str) -> LiveJob:
        found = self.loop.machine.state.jobs.get(JobId(job))
        if found is None:
            raise NotFound(f"there is no job {job!r}", fix="convoy job list")
        return found


def _named(sites: Sequence[str] | None) -> str:
    return "all" if sites is None else ", ".join(sites)


def resident_bytes() -> int:
    """Return this process's resident memory; 0 where /proc is not there."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
