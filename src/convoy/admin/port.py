"""The seam between the REST API and the server behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from convoy.admin import views


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: proven by a key, described by federation.json. Nobody has no name."""

    name: str
    org: str
    role: str

    @property
    def actor(self) -> str:
        """Who this is in the audit trail."""
        return f"admin:{self.name}" if self.name else "stranger"


class Coordinator(Protocol):
    """What people may ask of a server. Rights are checked before a call gets here.

    Every method that takes a job id raises `NotFound` for an unknown one.
    """

    async def submit(self, person: Person, bundle: bytes) -> views.JobView:
        """Verify, check and keep a bundle; sending the same bundle again returns the same job."""
        ...

    def jobs(self) -> list[views.JobView]:
        """Return every job, newest first."""
        ...

    async def job(self, job: str) -> views.JobDetail:
        """Return one job in full."""
        ...

    def watch(self, job: str) -> AsyncIterator[views.Progress]:
        """Yield the job at once and after each change, until it has ended."""
        ...

    def logs(self, job: str, site: str | None, follow: bool) -> AsyncIterator[views.LogLine]:
        """Yield the job's log lines; with `follow`, until the job has ended."""
        ...

    async def abort(self, person: Person, job: str) -> views.JobView:
        """End a job; returns when nothing of it runs any more. Raises `Refused` if it has ended already."""
        ...

    async def delete(self, person: Person, job: str) -> None:
        """Forget an ended job and its results. Raises `Refused` while it runs."""
        ...

    def bundle(self, job: str) -> Path:
        """Return the file of the job's bundle as it was submitted."""
        ...

    def result(self, job: str, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of one result file, by its name in `JobDetail.results`."""
        ...

    def sites(self) -> list[views.SiteView]:
        """Return every site of the project, by name."""
        ...

    async def set_site(self, person: Person, site: str, enabled: bool) -> views.SiteView:
        """Let a site take part, or not. Raises `NotFound` for an unknown site."""
        ...

    def status(self) -> views.ServerView:
        """Return the server in one look."""
        ...

    def problems(self, count: int) -> list[views.LogLine]:
        """Return the newest warnings and errors of the server, oldest first."""
        ...

    async def revoke_site(self, person: Person, site: str) -> views.SiteView:
        """Let nothing count that a site was certified for so far. Raises `NotFound` for an unknown site."""
        ...

    async def revoke_admin(self, person: Person, admin: str) -> views.Done:
        """Let nobody log in with what a person was certified for so far. Raises `NotFound` for an unknown person."""
        ...

    def note(self, actor: str, action: str, thing: str, *, refusal: str = "") -> None:
        """Write into the audit trail what the REST API did, or refused, by itself."""
        ...

    def trail(self, since: int) -> AsyncIterator[views.AuditLine]:
        """Yield the audit trail from record `since` on, each record followed by its checkpoint if it has one."""
        ...

    async def shutdown(self, person: Person, target: str, restart: bool) -> None:
        """Stop (or restart) the server ("server") or a site by name, after a drain."""
        ...


class Registrar(Protocol):
    """What people may ask of a server about who is who."""

    async def enrol(self, ask: views.EnrolAsk) -> views.CertificateView:
        """Certify the key of whoever holds a fresh join token. Raises `NotAllowed`."""
        ...

    def renew(self, person: Person, request: str) -> views.CertificateView:
        """Certify another key of somebody who has logged in. Raises `NotAllowed`."""
        ...

    async def invite(self, person: Person, ask: views.InviteAsk) -> None:
        """Let a join token be used. Raises `NotAllowed` for somebody whom federation.json does not list."""
        ...

    @property
    def signed(self) -> bytes:
        """The federation.json that counts now."""
        ...

    async def ask_for_authority(self, person: Person) -> views.RequestView:
        """Make a key for another issuing authority, and ask the holder of the root to certify it."""
        ...

    async def take_authority(self, person: Person, certificate: str) -> None:
        """Issue with the key that was made last from now on: everybody renews. Raises `NotAllowed`, `BadInput`."""
        ...

    async def publish(self, person: Person, signed: bytes) -> views.FederationView:
        """Take a newer federation.json, and tell everybody; the same one again is no news. Raises `Refused`."""
        ...
