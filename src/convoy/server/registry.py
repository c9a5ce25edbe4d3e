"""Participants and their certificates while the server runs: invitations, renewals, federation.json."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from convoy.admin import views
from convoy.admin.port import Grant, Person
from convoy.control.records import SiteName
from convoy.errors import NotAllowed, Refused
from convoy.spec.kit import PENDING, Kind, Kit
from convoy.spec.settings import Settings
from convoy.store.ledger import Ledger, Withdrawn
from convoy.trust import enrolment, issuing, keys, membership, peers
from convoy.trust.authority import DAY_S, read_certificate
from convoy.trust.enrolment import Invite
from convoy.trust.federation import Federation, Membership
from convoy.trust.issuing import Issuing
from convoy.wire.tls import Peer


@dataclass(slots=True)
class Registry:
    """Implements `admin.port.Registrar`. Neither the root's key nor the issuing authority's is here."""

    project: str
    issuing: Issuing
    ledger: Ledger
    membership: Membership
    signed: bytes  # the file that holds the current federation.json
    kit: Kit
    settings: Settings
    keep: Callable[[Invite | Withdrawn], None]  # the loop's: makes an entry durable in order with all others
    settled: Callable[[], Awaitable[None]]  # the loop's: waits until everything so far is durable
    announce: Callable[
        [Federation, bytes, frozenset[str]], None
    ]  # called with each newer federation.json and those who are not in it any more
    renew_all: Callable[[], None]  # called when the issuing authority has changed

    async def enrol(self, ask: views.EnrolAsk) -> views.CertificateView:
        """Certify the key of whoever holds a join token, from the token's first use on. Raises `NotAllowed`."""
        key = enrolment.requested_key(ask.request.encode())
        token = enrolment.token_hash(ask.token, project=self.project, kind=ask.kind, name=ask.name)
        self._listed("site" if ask.kind == "site" else "admin", ask.name)
        await self.settled()  # so that withdrawals up to now are in the ledger, too
        before = self.membership.revoked.get(ask.name)
        invite, used_at = await asyncio.to_thread(self.ledger.redeem, token, key=enrolment.key_id(key), now=time.time())
        self._listed(invite.kind, invite.name)
        if self.membership.revoked.get(invite.name) != before:
            raise NotAllowed(f"{invite.name} was revoked while it enrolled", fix=f"convoy kit invite {invite.name}")
        structlog.get_logger().info("enrolled", kind=invite.kind, name=invite.name)
        return views.CertificateView(certificate=self._certify(invite.kind, invite.name, key, used_at).decode())

    def renew(self, grant: Grant, request: str) -> views.CertificateView:
        """Certify a new key of a person who has logged in. Raises `NotAllowed`."""
        key = enrolment.requested_key(request.encode())
        pem = grant.act(lambda person: self._certify("admin", person.name, key, time.time()))
        return views.CertificateView(certificate=pem.decode())

    def renewed(self, site: str, request: bytes) -> tuple[Peer, bytes]:
        """Certify a new key of a connected site; return the site with its new certificate, and the certificates.

        The caller checks in the same step that the site may continue.
        """
        now = time.time()
        pem = self._certify("site", site, enrolment.requested_key(request), now)
        return Peer(site, now, now + self.settings.site_certificate_life, renews=True), pem

    def _certify(self, kind: Kind, name: str, key: keys.PublicKey, now: float) -> bytes:
        return self.issuing.certify(kind, name, key, now=self.membership.next_issue(name, now))

    def _listed(self, kind: Kind, name: str) -> None:
        known = self.membership.now.participants.get(name)
        if known is None or known.kind != kind:
            number = self.membership.now.number
            raise NotAllowed(
                f"{self.project} has no {kind} called {name}", why=f"federation.json number {number} says so"
            )

    async def invite(self, grant: Grant, ask: views.InviteAsk) -> None:
        """Register a join token, and withdraw older ones. Raises `NotAllowed` for a name that is not listed."""
        grant.act(lambda person: self._invited(person, ask))
        await self.settled()

    def _invited(self, person: Person, ask: views.InviteAsk) -> None:
        self._listed(ask.kind, ask.name)
        structlog.get_logger().info("invited", by=person.name, kind=ask.kind, name=ask.name)
        self.keep(Withdrawn(ask.name, but=ask.hash))
        self.keep(Invite(ask.hash, ask.kind, ask.name, min(ask.expires_at, time.time() + 366 * DAY_S)))

    async def invites(self) -> list[views.InviteView]:
        """Return the join tokens that can be used, and those that were used, by name."""
        await self.settled()
        found = await asyncio.to_thread(self.ledger.invites, time.time())
        return [views.InviteView(kind=it.kind, name=it.name, expires_at=it.expires_at, used_at=at) for it, at in found]

    async def publish(self, grant: Grant, new: Federation, signed: bytes) -> views.FederationView:
        """Accept a newer federation.json and pass it on; the same one again changes nothing. Raises `Refused`."""
        grant.act(lambda person: self._published(person, new, signed))
        return views.FederationView(number=new.number, sites=[SiteName(name) for name in new.sites()])

    def _published(self, person: Person, new: Federation, signed: bytes) -> None:
        """Apply it without an await in between; the file is small and is written in the same step."""
        old = self.membership.now
        if new.project != self.project or new.number < old.number or (new.number == old.number and new != old):
            raise Refused(
                f"federation.json number {new.number} of {new.project} is not newer than the current one",
                why=f"this is {self.project}, and its current one has number {old.number}",
                fix="publish the newest one",
            )
        if new == old:
            return
        membership.take(self.kit, signed)
        self.signed = signed
        self.membership.take(new, self.kit.root_file.read_bytes())
        structlog.get_logger().info("federation.json is new", by=person.name, number=new.number)
        self.announce(new, signed, frozenset(old.participants.keys() - new.participants.keys()))

    async def ask_for_authority(self, grant: Grant) -> views.RequestView:
        """Make a key for another issuing authority, and ask the holder of the root to certify it."""
        grant.act(lambda person: structlog.get_logger().info("a new issuing authority was requested", by=person.name))
        return views.RequestView(request=(await asyncio.to_thread(self.issuing.request)).decode())

    async def take_authority(self, grant: Grant, certificate: str) -> None:
        """Issue with the newest key from now on; all participants renew. Raises `NotAllowed`, `BadInput`."""
        grant.act(lambda person: self._issues_with(person, certificate.encode()))

    def _issues_with(self, person: Person, pem: bytes) -> None:
        if not (self.kit.work / PENDING).exists():
            raise Refused("no issuing authority was requested", fix="convoy federation issue")
        new = read_certificate(pem, name=issuing.NAME)
        root_pem, now = self.membership.root_pem, time.time()
        peers.check_issuing(new, root_pem, project=self.project, now=now, name=issuing.NAME)
        self.issuing.take(new)
        structlog.get_logger().info("the issuing authority has changed", by=person.name)
        self.renew_all()
