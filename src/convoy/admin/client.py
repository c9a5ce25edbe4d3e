"""The async client of the REST API: what a person's kit may ask of its server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convoy.admin import following, job_reference, link, pages, parsing
from convoy.admin.faults import LoginNeeded
from convoy.errors import NotAllowed
from convoy.spec.kit import Kit, read_kit
from convoy.wire.backoff import PATIENCE_S, Patience

if TYPE_CHECKING:  # pydantic costs as much as a whole submit: views are loaded when the first answer needs them
    from convoy.admin import views
    from convoy.admin.changes import ChangeView, PresenceView
    from convoy.trust import audit as trail
    from convoy.trust.bundle import Bundle
    from convoy.trust.federation import Federation

BRIEF: Final = "?brief=true"
FIRST_S: Final = 5.0  # how long a first login waits for a server that does not answer


@dataclass(frozen=True, slots=True)
class Sent:
    """A job as the server accepted it."""

    id: str
    name: str


@dataclass(slots=True)
class Client:
    """One person at one server; `connect` makes one. Logs in when needed, and again when the bearer token expires."""

    name: str
    project: str
    kit: Kit
    key_pem: bytes = field(repr=False)
    cert_pem: bytes
    root_pem: bytes
    link: link.Link
    patience_s: float = PATIENCE_S
    _bearer: str = field(default="", repr=False)
    _login: asyncio.Lock = field(default_factory=asyncio.Lock)

    # jobs

    async def submit(self, folder: Path | str) -> views.JobView:
        """Sign a job's folder, submit it and return the job. Raises `BadInput` for what is wrong with it."""
        return (await self.job((await self.send(await self.pack(Path(folder)))).id, brief=True)).job

    async def pack(self, folder: Path) -> bytes:
        """Return the signed bundle of a job's folder, and log in meanwhile."""
        from convoy.trust import folders

        packed, _ = await asyncio.gather(
            asyncio.to_thread(lambda: self._signed(folders.gather_job(folder))), self.log_in()
        )
        return packed

    def _signed(self, files: Any) -> bytes:
        from convoy.trust import bundle, folders

        return bundle.pack(
            files,
            sites=folders.targets(files),
            project=self.project,
            submitter=self.name,
            key_pem=self.key_pem,
            cert_pem=self.cert_pem,
            now=time.time(),
        )

    async def send(self, bundle: bytes) -> Sent:
        """Submit a signed bundle; sending it again is the same job, so it is repeated after a broken connection."""
        said = await self._ask("POST", "/jobs", content=bundle, again=True)
        return Sent(parsing.text(said, "id", parsing.JOB_ID), parsing.text(said, "name", parsing.WORD))

    async def jobs(self, *, begins: str = "", count: int = 0) -> list[views.JobView]:
        """Return the jobs, newest first: those whose name or id begins with `begins`, at most `count` (0: all)."""
        return await pages.jobs(self._ask, begins, count)

    async def job_page(self, *, begins: str = "", after: str = "", limit: int = 100) -> views.JobPage:
        """Return one page of the jobs, newest first: those after the job with the id `after`, at most `limit`."""
        return await pages.job_page(self._ask, begins, after, limit)

    async def find(self, text: str) -> str:
        """Return a job's id from its id, its unique prefix or its name: the one that has not ended, else the newest."""
        if parsing.JOB_ID.fullmatch(text):
            return text
        found = await pages.meant(self._ask, text)
        return job_reference.job(text, found or await self.jobs(count=job_reference.SHOWN))

    def rounds(self, job: str, *, after: int = -1) -> AsyncGenerator[views.RoundView, None]:
        """Yield the rounds of a job after a number, each with at most 100 of its sites, page by page."""
        return pages.rounds(self._ask, job, after)

    async def round_page(self, job: str, *, after: int, limit: int, sites: Sequence[str] = ()) -> views.RoundPage:
        """Return at most `limit` rounds of a job after a number, each with these sites or the first 100."""
        return await pages.round_page(self._ask, job, after, limit, sites)

    async def round(self, job: str, number: int, *, brief: bool = False) -> views.RoundView:
        """Return one round with all of its sites; a `brief` one is without costs."""
        return await pages.round(self._ask, link.path("jobs", job, "rounds", str(number)) + BRIEF * brief, number)

    async def job(self, job: str, *, brief: bool = False) -> views.JobDetail:
        """Return one job with its newest rounds; a `brief` one is without costs and the sites of rounds."""
        from convoy.admin import views

        detail = parsing.one(views.JobDetail, await self._ask("GET", link.path("jobs", job) + BRIEF * brief))
        parsing.same("the job", detail.job.id, job)
        return detail

    def watch(self, job: str, *, after: int = -1) -> AsyncGenerator[views.Progress, None]:
        """Yield the job at once and after each change until it has ended; each round once, also after a break.

        `after`: only rounds after this number.
        """
        return following.watch(self._open, job, after, self.patience_s)

    def logs(self, job: str, *, site: str | None = None, follow: bool = False) -> AsyncGenerator[views.LogLine, None]:
        """Yield the job's log lines; with `follow` until it has ended, each line once, also after a break."""
        return following.logs(self._open, job, site=site, live=follow, patience_s=self.patience_s)

    def points(
        self, job: str, *, site: str | None = None, key: str = "", follow: bool = False
    ) -> AsyncGenerator[views.PointView, None]:
        """Yield the job's live metrics, those of each site in their order; with `follow` until it has ended.

        `key`: only values whose keys match this shell pattern. Each point comes once, also after a break.
        """
        return following.points(self._open, job, site=site, key=key, live=follow, patience_s=self.patience_s)

    async def abort(self, job: str) -> views.JobView:
        """End a job; return when all its processes have ended."""
        from convoy.admin import views

        return parsing.one(views.JobView, await self._ask("POST", link.path("jobs", job, "abort")))

    async def delete(self, job: str) -> None:
        """Delete an ended job and its results."""
        await self._ask("DELETE", link.path("jobs", job))

    async def bundle(self, job: str) -> Bundle:
        """Return a job's bundle as its submitter signed it, checked against the id and the submitter of the job."""
        from convoy.admin import download

        record = (await self.job(job, brief=True)).job
        return await download.bundle(self._open, record, root_pem=self.root_pem, project=self.project)

    async def signed(self, files: Mapping[str, bytes | memoryview]) -> bytes:
        """Return exactly these files, by their paths, as a signed bundle: a job of its own each time."""
        return await asyncio.to_thread(self._signed, files)

    async def submit_files(self, files: Mapping[str, bytes | memoryview]) -> Sent:
        """Sign exactly these files, by their paths, and submit them; check them first."""
        return await self.send(await self.signed(files))

    async def clone(self, job: str) -> Sent:
        """Submit the files of the job with this id as a new job, signed by this person."""
        return await self.submit_files((await self.bundle(job)).files)

    async def fetch(self, job: str, folder: Path | str) -> list[Path]:
        """Write the results of a job into a folder; continue an interrupted download. No file is ever incomplete."""
        from convoy.admin.download import fetch

        return await fetch(self._open, await self.job(job, brief=True), Path(folder), Patience(self.patience_s))

    async def result(self, job: str, name: str, most: int) -> bytes:
        """Return one file of the results of a job. Raises `NotFound`, and `RemoteFault` for more bytes than `most`."""
        from convoy.admin import download

        return await download.whole(self.read(job, name), name, most)

    def read(self, job: str, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of one file of the results of a job; it continues after a broken connection."""
        from convoy.admin import download

        return download.result(self._open, job, name, Patience(self.patience_s))

    # the federation

    def changes(self) -> AsyncGenerator[ChangeView, None]:
        """Yield an item at once and after changes of the federation, at most one a second. Raises `Unreachable`."""
        return following.changes(self._open)

    async def me(self) -> views.PersonView:
        """Return the name, organisation and role of this person."""
        from convoy.admin import views

        return parsing.one(views.PersonView, await self._ask("GET", "/me"))

    async def status(self) -> views.ServerView:
        """Return the state of the server."""
        from convoy.admin import views

        return parsing.one(views.ServerView, await self._ask("GET", "/status"))

    async def problems(self, count: int = 50) -> list[views.LogLine]:
        """Return the server's newest warnings and errors, oldest first."""
        return await pages.problems(self._ask, count)

    async def sites(self) -> list[views.SiteView]:
        """Return every site, by name."""
        return await pages.sites(self._ask)

    async def presence(self) -> PresenceView:
        """Return how each site was since the server started, at most in the last 24 h."""
        return await pages.presence(self._ask)

    async def site(self, site: str) -> views.SiteView:
        """Return one site."""
        return await pages.site(self._ask, "GET", site)

    async def enable(self, site: str, *, enabled: bool = True) -> views.SiteView:
        """Enable or disable a site."""
        return await pages.site(self._ask, "POST", site, "enable" if enabled else "disable")

    async def leave(self, target: str, *, restart: bool) -> None:
        """Drain and stop, or restart, the server ("server") or a site."""
        place = () if target == "server" else ("sites", target)
        await self._ask("POST", link.path(*place, "restart" if restart else "stop"))

    async def revoke(self, site: str) -> views.SiteView:
        """Revoke all certificates of a site that were issued so far."""
        return await pages.site(self._ask, "POST", site, "revoke")

    async def revoke_admin(self, name: str) -> None:
        """Revoke all certificates of a person that were issued so far."""
        await self._ask("POST", link.path("admins", name, "revoke"))

    # who is who

    async def ask_for_authority(self) -> str:
        """Return the request (PEM) for a new issuing authority; the server keeps the key."""
        return parsing.text(await self._ask("POST", "/authority/request"), "request", parsing.PEM)

    async def give_authority(self, certificate: str) -> None:
        """Give the server the certificate (PEM) of its new issuing authority."""
        await self._ask("POST", "/authority", content=json.dumps({"certificate": certificate}).encode())

    async def renew(self, request: str) -> str:
        """Return the certificate (PEM) for a new key of this person; `request` (PEM) proves the key."""
        said = await self._ask("POST", "/renew", content=json.dumps({"request": request}).encode())
        return parsing.text(said, "certificate", parsing.PEM)

    async def invite(self, token_hash: str, kind: str, name: str, expires_at: float) -> None:
        """Register a join token; the server gets only its hash."""
        ask = {"hash": token_hash, "kind": kind, "name": name, "expires_at": expires_at}
        await self._ask("POST", "/invites", content=json.dumps(ask).encode())

    async def publish(self, signed: bytes) -> views.FederationView:
        """Give the server a newer federation.json."""
        from convoy.admin import views

        return parsing.one(views.FederationView, await self._ask("POST", "/federation", content=signed))

    async def audit(self, since: int = 0) -> AsyncGenerator[trail.Entry, None]:
        """Yield the audit trail from record `since` on, each record followed by its checkpoint if it has one."""
        from convoy.trust import audit as trail

        await self.me()  # an expired login is renewed here
        async with self._open("GET", f"/audit?since={since}") as chunks:
            async for line in link.lines(chunks):
                yield trail.read(line, where="what the server sent")

    async def records(self, wanted: trail.Search, *, before: int = 0, limit: int = 100) -> views.AuditPage:
        """Return a page of the trail's records, newest first; those with numbers under `before`, if it is not 0."""
        return await pages.records(self._ask, wanted, before, limit)

    async def people(self) -> list[views.AdminView]:
        """Return everybody who may log in, by name, and up to when their certificates are revoked."""
        return await pages.people(self._ask)

    async def invites(self) -> list[views.InviteView]:
        """Return the join tokens that can be used, and those that were used, by name."""
        return await pages.invites(self._ask)

    async def who_is_who(self) -> Federation:
        """Return the newest federation.json, whose signature by the root was verified."""
        from convoy.trust import membership

        await self.log_in()
        await self._hear_news(parsing.MAX_NUMBER)
        return (await asyncio.to_thread(membership.current, self.kit))[0]

    # logging in, asking

    async def log_in(self) -> None:
        """Log in with the key of the kit and keep the bearer token; does nothing while there is one."""
        async with self._login:
            if self._bearer:
                return
            if not self.key_pem:
                raise NotAllowed("the server takes this process's token no more", fix="the server starts it again")
            said = await self.link.ask("GET", f"{link.V1}/login")
            project = parsing.text(said, "project", parsing.WORD)
            if project != self.project:
                raise NotAllowed(
                    f"{self.link.name} does not serve the project {self.project}",
                    why=f"it serves {project}",
                    fix="use the kit of that project, or name your server with --server HOST:PORT",
                )
            from convoy.trust import login

            nonce = parsing.text(said, "nonce", parsing.SECRET)
            answer = login.answer(self.key_pem, self.cert_pem, self.project, nonce) | {"nonce": nonce}
            given = await self.link.ask("POST", f"{link.V1}/login", content=json.dumps(answer).encode())
            newest = parsing.number(given, "federation")
            self._bearer = parsing.text(given, "token", parsing.SECRET)
        await self._hear_news(newest)
        await self._renew_in_time()

    async def _hear_news(self, number: int) -> None:
        """Store a newer federation.json, which may list other roots."""
        from convoy.trust import federation, membership

        if number > membership.known(self.kit):
            async with self._open("GET", "/federation") as chunks:
                signed = b"".join([chunk async for chunk in link.limited(chunks, federation.MAX_BYTES)])
            membership.take(self.kit, signed)
            self.root_pem = self.kit.root_file.read_bytes()

    async def _renew_in_time(self) -> None:
        """Renew the certificate after half of its lifetime, while it is still valid."""
        from convoy.admin import joining  # cryptography is loaded at the login, not before

        if joining.is_due(self.cert_pem, self.root_pem, now=time.time()):
            await joining.renew(self.kit, self.renew)
            self.key_pem, self.cert_pem = self.kit.key_file.read_bytes(), self.kit.certificate

    @asynccontextmanager
    async def _open(self, method: str, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the chunks of an answer, logged in."""
        await self.log_in()
        bearer = self._bearer
        try:
            headers = {"authorization": f"Bearer {bearer}"}
            async with self.link.open(method, link.V1 + path, headers=headers) as chunks:
                yield chunks
        except LoginNeeded:
            if self._bearer == bearer:
                self._bearer = ""
            raise

    async def _ask(self, method: str, path: str, *, content: bytes | None = None, again: bool = False) -> bytes:
        """Return the text of an answer; repeats once after a lost login or, where it is safe, a lost connection."""
        patience_s = 10 * link.READ_S if path.endswith("/abort") or content else link.READ_S
        for attempt in (1, 2):
            await self.log_in()
            bearer = self._bearer
            headers = {"authorization": f"Bearer {bearer}"}
            try:
                return await self.link.ask(
                    method, link.V1 + path, content=content, headers=headers, patience_s=patience_s
                )
            except LoginNeeded:
                if attempt == 2:
                    raise
                self._bearer = "" if self._bearer == bearer else self._bearer
            except link.Broken:
                if attempt == 2 or not (again or method == "GET"):
                    raise
        raise AssertionError("both attempts ended without an answer or an error")


@asynccontextmanager
async def connect(kit: Kit | Path | str, *, server: str = "", patience_s: float = PATIENCE_S) -> AsyncIterator[Client]:
    """Give a client for an admin's kit; `server` is HOST or HOST:PORT where it is not what the kit says."""
    found = kit if isinstance(kit, Kit) else read_kit(Path(kit))
    if found.kind != "admin":
        raise NotAllowed(f"{found.root} is the kit of a {found.kind}", why="use an admin's kit")
    host, port = link.address(server, found)
    if not found.enrolled:
        from convoy.admin import joining  # cryptography is loaded for a first start or a login

        await joining.enrol(found, server=server, patience_s=min(patience_s, FIRST_S))
    root_pem = found.root_file.read_bytes()
    wire = link.Link(host, port, root_pem)
    try:
        yield Client(
            name=found.name,
            project=found.project,
            kit=found,
            key_pem=found.key_file.read_bytes(),
            cert_pem=found.certificate,
            root_pem=root_pem,
            link=wire,
            patience_s=patience_s,
        )
    finally:
        await wire.close()
