"""What people may ask of this server: the coordinator behind the REST API."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from convoy.admin import views
from convoy.admin.changes import ChangeView, PresenceView
from convoy.admin.port import Grant, Person
from convoy.control import events
from convoy.control.records import Job, JobId, SiteName
from convoy.control.transitions import ENDED
from convoy.control.view import ReadOnlyJob, ReadOnlySite
from convoy.errors import ConvoyError, NotFound, Refused, StorageFull
from convoy.node.process import Ending, Notes
from convoy.server.attendance import Attendance
from convoy.server.auditor import Auditor
from convoy.server.files import Workspace
from convoy.server.following import Following, no_site
from convoy.server.hub import Hub
from convoy.server.intake import Intake
from convoy.server.loop import Loop
from convoy.server.reading import JobReader
from convoy.server.results import Results
from convoy.server.views import admin_views, audit_line, audit_page, job_view, site_view
from convoy.store.ledger import Switched, Withdrawn
from convoy.trust.audit import Search
from convoy.trust.federation import Membership
from convoy.wire import convoy_pb2 as pb

PIECE: Final = 1 << 18  # bytes of a bundle that are read at once


@dataclass(slots=True)
class ServerCoordinator:
    """Implements `admin.port.Coordinator` over the loop."""

    loop: Loop
    reader: JobReader
    audit: Auditor
    workspace: Workspace
    intake: Intake
    hub: Hub
    results: Results
    membership: Membership
    version: str
    following: Following
    attendance: Attendance
    expel: Callable[[SiteName], None]  # end every connection of a site
    notes: Notes
    ending: Ending
    log: Any  # a structlog logger
    submitted: list[Callable[[str], None]] = field(default_factory=list)  # called with the id of each new job
    started_at: float = field(default_factory=time.time)
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def submit(self, grant: Grant, bundle: bytes) -> views.JobView:
        """Verify, check and keep a bundle; sending the same bundle again returns the same job."""
        problem = self.loop.check_room()
        if problem:
            raise StorageFull(
                "the server takes no new jobs now",
                why=problem,
                fix="free space on the server's disk, or delete jobs that have ended: convoy job delete JOB",
            )
        async with self._taking:  # the same bundle may arrive twice, if a connection breaks
            person = grant.act(lambda person: person)
            record, known = await asyncio.to_thread(self.intake.take, person, bundle)
            try:
                grant.act(lambda person: self._submitted(person, record, known=known))
            except ConvoyError:
                if not known:
                    await asyncio.to_thread(self.workspace.job(record.id).remove)
                raise
        await self.loop.settled()
        return await self.reader.line(record.id)

    def _submitted(self, person: Person, record: Job, *, known: bool) -> None:
        self.intake.check_workflow(person, record)
        self.log.info("submitted", by=person.name, job=record.id, name=record.name)
        if not known:
            self._did(person, "submit", f"job:{record.id}", f"accepted: {record.name}")
            self.loop.post(events.Submitted(replace(record, org=person.org)))
            for told in self.submitted:
                told(record.id)

    async def jobs(self, *, begins: str = "", meant: str = "", after: str = "", limit: int = 100) -> views.JobPage:
        """Return a page of jobs, newest first; see `port.Coordinator`."""
        return await self.reader.page(begins, meant, after, limit)

    async def owner(self, job: str) -> tuple[str, str]:
        """Return who submitted a job, and their organisation then."""
        return await self.reader.owner(job)

    async def job(self, job: str, *, brief: bool = False) -> views.JobDetail:
        """Return one job with its newest rounds; a `brief` one is without costs and the sites of rounds."""
        over = (await self.reader.record(job)).state in ENDED
        return await self.reader.detail(job, await self.results.names(job) if over else [], brief=brief)

    async def rounds(self, job: str, after: int, limit: int, among: Collection[str] = ()) -> views.RoundPage:
        """Return a page of a job's rounds, those after a number; each with these sites, or with the first 100."""
        return await self.reader.rounds(job, after, limit, among)

    async def round(self, job: str, number: int, *, brief: bool = False) -> views.RoundView:
        """Return one round with all of its sites; a `brief` one is without costs. Raises `NotFound`."""
        return await self.reader.round(job, number, brief=brief)

    def changes(self) -> AsyncGenerator[ChangeView, None]:
        """Yield an item at once, and then after changes that people may see; see `port.Coordinator`."""
        return self.following.changes()

    def watch(self, job: str, after: int) -> AsyncGenerator[views.Progress, None]:
        """Yield the job at once and after each change, until it has ended; of its rounds those after a number."""
        return self.following.watch(job, after)

    def logs(self, job: str, site: str | None, follow: bool) -> AsyncGenerator[views.LogLine, None]:
        """Yield the job's log lines; with `follow`, until the job has ended."""
        return self.following.logs(job, site, follow)

    def points(
        self, job: str, site: str | None, key: str, after: int, follow: bool
    ) -> AsyncGenerator[views.PointView, None]:
        """Yield the job's live metrics; see `port.Coordinator`."""
        return self.following.points(job, site, key, after, follow)

    async def abort(self, grant: Grant, job: str) -> views.JobView:
        """End a job; returns when nothing of it runs any more. Raises `Refused` if it has ended already."""
        record, found = await self.reader.record(job), self.reader.live(job)
        if found is None or found.over:
            raise Refused(
                f"job {record.name} has ended already",
                why=f"it is {record.state}",
                fix=f"see the details: convoy job show {job[:8]}; remove it: convoy job delete {job[:8]}",
            )
        event = asyncio.Event()
        leave = self.loop.subscribe(job, event)
        try:
            grant.act(lambda person: self._aborted(person, found.record.id))
            while not found.over:
                event.clear()
                await event.wait()
        finally:
            leave()
        await self.loop.settled()
        return self._view(found)

    def _aborted(self, person: Person, job: JobId) -> None:
        self.log.info("abort asked", by=person.name, job=job)
        self._did(person, "abort", f"job:{job}")
        self.loop.post(events.AbortAsked(job, person.name))

    async def delete(self, grant: Grant, job: str) -> None:
        """Delete an ended job and its results. Raises `Refused` while it runs."""
        record = await self.reader.record(job)
        if record.state not in ENDED:
            raise Refused(
                f"job {record.name} has not ended", why=f"it is {record.state}", fix=f"convoy job abort {job[:8]}"
            )
        grant.act(lambda person: self._did(person, "delete", f"job:{job}"))
        await self.results.remove(job, grant.check)
        grant.act(lambda person: self._deleted(person, record.id))
        await self.loop.settled()

    def _deleted(self, person: Person, job: JobId) -> None:
        self.log.info("delete", by=person.name, job=job)
        self.loop.post(events.DeleteAsked(job))

    async def bundle(self, job: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the job's bundle as it was submitted. Raises `Refused` if it is not kept any more."""
        await self.reader.owner(job)
        try:
            file = await asyncio.to_thread(self.workspace.job(job).bundle.open, "rb")
        except FileNotFoundError as problem:
            raise Refused("the bundle of this job is not kept any more", fix="submit its folder again") from problem
        with file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece

    async def result(self, job: str, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of one result file, by its name in `JobDetail.results`."""
        record = await self.reader.record(job)
        there = await self.results.names(job) if record.state in ENDED else []
        if name not in there:
            why = f"its results: {', '.join(there) or f'none: the job is {record.state}'}"
            raise NotFound(f"job {record.name} has no result {name!r}", why=why)
        async for chunk in self.results.read(job, name):
            yield chunk

    def sites(self) -> list[views.SiteView]:
        """Return every site of the project, by name."""
        listed = [site for site in self.loop.machine.state.sites.values() if site.listed]
        return [self._site_view(site) for site in sorted(listed, key=lambda site: site.name)]

    def people(self) -> list[views.AdminView]:
        """Return everybody who may log in, by name."""
        return admin_views(self.membership)

    def _site_view(self, site: ReadOnlySite) -> views.SiteView:
        return site_view(self.loop.machine.state, site, self.membership, self.hub.lines.get(site.name))

    def presence(self) -> PresenceView:
        """Return how each site was since the server started, for a bounded time."""
        return self.attendance.view()

    async def set_site(self, grant: Grant, site: str, enabled: bool) -> views.SiteView:
        """Let a site take part, or not. Raises `NotFound` for an unknown site."""
        known = self._site(site)
        grant.act(lambda person: self._switched(person, known.name, enabled=enabled))
        await self.loop.settled()
        return self._site_view(known)

    def _switched(self, person: Person, site: SiteName, *, enabled: bool) -> None:
        self.log.info("site switched", by=person.name, site=site, enabled=enabled)
        self._did(person, "enable" if enabled else "disable", f"site:{site}")
        self.loop.keep(Switched(site, enabled, self.membership.revoked.get(site, 0.0)))
        self.loop.post(events.SiteSwitched(site, enabled))
        if not enabled:
            self.expel(site)

    async def revoke_site(self, grant: Grant, site: str) -> views.SiteView:
        """Revoke all certificates of a site that were issued so far. Raises `NotFound` for an unknown site."""
        known = self._site(site)
        grant.act(lambda person: self._revoked(person, known.name))
        await self.loop.settled()
        return self._site_view(known)

    def _revoked(self, person: Person, site: SiteName) -> None:
        self.log.info("site revoked", by=person.name, site=site)
        self._did(person, "revoke", f"site:{site}")
        self.take_back(site, time.time())
        self.loop.post(events.SiteRevoked(site))
        self.expel(site)

    async def revoke_admin(self, grant: Grant, admin: str) -> views.Done:
        """Revoke all certificates of a person that were issued so far. Raises `NotFound` for an unknown person."""
        known = self.membership.now.participants.get(admin)
        if known is None or known.kind != "admin":
            raise NotFound(
                f"{admin} is not an admin of {self.membership.now.project}", fix="its admins are those of project.yml"
            )
        grant.act(lambda person: self._logged_out(person, admin))
        await self.loop.settled()
        return views.Done()

    def _logged_out(self, person: Person, admin: str) -> None:
        self.log.info("admin revoked", by=person.name, admin=admin)
        self._did(person, "revoke", f"admin:{admin}")
        self.take_back(admin, time.time())

    def take_back(self, name: str, now: float) -> None:
        """Invalidate durably all certificates and open invitations that a name got so far."""
        site = self.loop.machine.state.sites.get(SiteName(name))
        self.membership.revoke(name, now)
        self.loop.keep(Switched(name, site.enabled if site else True, now))
        self.loop.keep(Withdrawn(name))

    def _site(self, site: str) -> ReadOnlySite:
        known = self.loop.machine.state.sites.get(SiteName(site))
        if known is None or not known.listed:
            raise no_site(self.membership, site)
        return known

    def status(self) -> views.ServerView:
        """Return the state of the server."""
        self.loop.check_room()
        state = self.loop.machine.state
        states = [job.record.state for job in state.jobs.values()]
        return views.ServerView(
            project=self.membership.now.project,
            version=self.version,
            started_at=self.started_at,
            jobs_running=sum(1 for found in states if found in ("running", "ending")),
            jobs_waiting=states.count("submitted"),
            sites_connected=len(self.hub.lines),
            sites_known=len(self.membership.now.sites()),
            problem=state.problem,
            disk_free=shutil.disk_usage(self.workspace.folder).free,
            python=platform.python_version(),
            platform=platform.platform(terse=True),
            memory=resident_bytes(),
        )

    def problems(self, count: int) -> list[views.LogLine]:
        """Return the newest warnings and errors of the server, oldest first."""
        return [views.LogLine(site="server", text=text) for text in list(self.notes.newest)[-count:]]

    async def shutdown(self, grant: Grant, target: str, restart: bool) -> None:
        """Stop (or restart) the server ("server") or a site by name, after a drain."""
        if target != "server" and target not in self.loop.machine.state.sites:
            raise no_site(self.membership, target)
        if target != "server" and target not in self.hub.lines:
            raise Refused(f"{target} is not connected", fix=f"start it on its own machine: convoy run KIT of {target}")
        grant.act(lambda person: self._left(person, target, restart=restart))

    def _left(self, person: Person, target: str, *, restart: bool) -> None:
        self.log.info("shutdown asked", by=person.name, target=target, restart=restart)
        self._did(person, "restart" if restart else "stop", "server" if target == "server" else f"site:{target}")
        if target == "server":
            self.ending.ask(restart=restart)
        else:
            self.hub.send(target, pb.Down(leave=pb.Leave(restart=restart)))

    def note(self, actor: str, action: str, thing: str, *, refusal: str = "") -> None:
        """Record in the audit trail what the REST API did or refused."""
        if refusal:
            self.audit.note_some(actor, action, thing, f"refused: {refusal}")
        else:
            self.audit.note(actor, action, thing)

    async def trail(self, since: int) -> AsyncIterator[views.AuditLine]:
        """Yield the audit trail from record `since` on, each record followed by its checkpoint if it has one."""
        async for entry in self.audit.trail(since):
            yield audit_line(entry)

    async def records(self, wanted: Search, before: int, limit: int) -> views.AuditPage:
        """Return records of the audit trail, newest first; see `port.Coordinator`."""
        return audit_page(*await asyncio.to_thread(self.audit.search, wanted, before, limit))

    def _did(self, person: Person, action: str, thing: str, outcome: str = "done") -> None:
        self.audit.note(person.actor, action, thing, outcome)

    def _view(self, job: ReadOnlyJob) -> views.JobView:
        return job_view(job, self.loop.machine.state.problem)


def resident_bytes() -> int:
    """Return this process's resident memory; 0 where /proc is not there."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
