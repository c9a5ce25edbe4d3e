"""The interfaces between the REST API and the server behind it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Protocol, TypeVar

from convoy.admin import views
from convoy.admin.changes import ChangeView, PresenceView
from convoy.trust import audit
from convoy.trust.federation import Federation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Person:
    """A caller: proven by a key, described by federation.json. An unauthenticated caller has an empty name.

    A process of the server itself is called `server:NAME`; no person's name has a colon.
    """

    name: str
    org: str
    role: str

    @property
    def actor(self) -> str:
        """Who this is in the audit trail."""
        if ":" in self.name:
            return self.name
        return f"admin:{self.name}" if self.name else "stranger"


class Grant(Protocol):
    """A right that a person has, checked each time that it is used.

    It is the only way to a `Person`, so code that acts for a person checks the right in the step of the effect.
    """

    def act(self, effect: Callable[[Person], T]) -> T:
        """Check the right, then call `effect` in the same step. Raises `NotAllowed` once the right is lost."""
        ...

    def check(self) -> None:
        """Raise `NotAllowed` once the right is lost."""
        ...


class Coordinator(Protocol):
    """What people may ask of a server. What changes something is done through the caller's `Grant`.

    Every method that takes a job id raises `NotFound` for an unknown one.
    """

    async def submit(self, grant: Grant, bundle: bytes) -> views.JobView:
        """Verify, check and keep a bundle; sending the same bundle again returns the same job."""
        ...

    async def jobs(self, *, begins: str = "", meant: str = "", after: str = "", limit: int = 100) -> views.JobPage:
        """Return a page of jobs, newest first; `after` is `next` of the page before. Raises `BadInput`.

        `begins`: only jobs whose name or id begins with this. `meant`: only jobs whose id begins with this or whose
        name it is, those that have not ended first; there is only one page of them.
        """
        ...

    async def owner(self, job: str) -> tuple[str, str]:
        """Return who submitted a job, and their organisation then."""
        ...

    async def job(self, job: str, *, brief: bool = False) -> views.JobDetail:
        """Return one job with its newest rounds; a `brief` one is without costs and the sites of rounds."""
        ...

    async def rounds(self, job: str, after: int, limit: int, among: Collection[str] = ()) -> views.RoundPage:
        """Return a page of a job's rounds, those after a number; each with these sites, or with the first 100."""
        ...

    async def round(self, job: str, number: int, *, brief: bool = False) -> views.RoundView:
        """Return one round with all of its sites; a `brief` one is without costs. Raises `NotFound`."""
        ...

    def watch(self, job: str, after: int) -> AsyncGenerator[views.Progress, None]:
        """Yield the job at once and after each change, until it has ended; of its rounds those after a number."""
        ...

    def logs(self, job: str, site: str | None, follow: bool) -> AsyncIterator[views.LogLine]:
        """Yield the job's log lines; with `follow`, until the job has ended."""
        ...

    def points(
        self, job: str, site: str | None, key: str, after: int, follow: bool
    ) -> AsyncGenerator[views.PointView, None]:
        """Yield the job's live metrics, those of each site in their order; with `follow`, until the job has ended.

        `key`: only values whose keys match this shell pattern; `after`: only points of a site after this number.
        """
        ...

    def changes(self) -> AsyncGenerator[ChangeView, None]:
        """Yield an item at once, and then after changes that people may see in the federation as a whole.

        At most one item a second, however many changes there are, and at least one in 30 s.
        """
        ...

    async def abort(self, grant: Grant, job: str) -> views.JobView:
        """End a job; returns when nothing of it runs any more. Raises `Refused` if it has ended already."""
        ...

    async def delete(self, grant: Grant, job: str) -> None:
        """Forget an ended job and its results. Raises `Refused` while it runs."""
        ...

    def bundle(self, job: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the job's bundle as it was submitted. Raises `Refused` if it is not kept any more."""
        ...

    def result(self, job: str, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of one result file, by its name in `JobDetail.results`."""
        ...

    def sites(self) -> list[views.SiteView]:
        """Return every site of the project, by name."""
        ...

    def presence(self) -> PresenceView:
        """Return how each site was since the server started, for a bounded time."""
        ...

    async def set_site(self, grant: Grant, site: str, enabled: bool) -> views.SiteView:
        """Enable or disable a site. Raises `NotFound` for an unknown site."""
        ...

    def status(self) -> views.ServerView:
        """Return the state of the server."""
        ...

    def problems(self, count: int) -> list[views.LogLine]:
        """Return the newest warnings and errors of the server, oldest first."""
        ...

    async def revoke_site(self, grant: Grant, site: str) -> views.SiteView:
        """Revoke all certificates of a site that were issued so far. Raises `NotFound` for an unknown site."""
        ...

    async def revoke_admin(self, grant: Grant, admin: str) -> views.Done:
        """Revoke all certificates of a person that were issued so far. Raises `NotFound` for an unknown person."""
        ...

    def note(self, actor: str, action: str, thing: str, *, refusal: str = "") -> None:
        """Record in the audit trail what the REST API did or refused."""
        ...

    def trail(self, since: int) -> AsyncIterator[views.AuditLine]:
        """Yield the audit trail from record `since` on, each record followed by its checkpoint if it has one."""
        ...

    async def records(self, wanted: audit.Search, before: int, limit: int) -> views.AuditPage:
        """Return at most `limit` records that fit, newest first, all with numbers under `before`.

        One call looks at a bounded number of records; `next` is where the following call goes on, 0 at the beginning.
        """
        ...

    def people(self) -> list[views.AdminView]:
        """Return everybody who may log in, by name."""
        ...

    async def shutdown(self, grant: Grant, target: str, restart: bool) -> None:
        """Stop (or restart) the server ("server") or a site by name, after a drain."""
        ...


class Registrar(Protocol):
    """What people may ask of a server about participants and certificates."""

    async def enrol(self, ask: views.EnrolAsk) -> views.CertificateView:
        """Certify the key of whoever holds a fresh join token. Raises `NotAllowed`."""
        ...

    def renew(self, grant: Grant, request: str) -> views.CertificateView:
        """Certify a new key of a person who has logged in. Raises `NotAllowed`."""
        ...

    async def invite(self, grant: Grant, ask: views.InviteAsk) -> None:
        """Register a join token. Raises `NotAllowed` for somebody whom federation.json does not list."""
        ...

    async def invites(self) -> list[views.InviteView]:
        """Return the join tokens that can be used, and those that were used, by name."""
        ...

    @property
    def signed(self) -> bytes:
        """The current federation.json."""
        ...

    async def ask_for_authority(self, grant: Grant) -> views.RequestView:
        """Make a key for a new issuing authority; return the request that the holder of the root certifies."""
        ...

    async def take_authority(self, grant: Grant, certificate: str) -> None:
        """Issue with the newest key from now on; all participants renew. Raises `NotAllowed`, `BadInput`."""
        ...

    async def publish(self, grant: Grant, new: Federation, signed: bytes) -> views.FederationView:
        """Accept a newer federation.json and pass it on; the same one again changes nothing. Raises `Refused`.

        `new` is the content of `signed`, whose signature by a root has been verified.
        """
        ...
