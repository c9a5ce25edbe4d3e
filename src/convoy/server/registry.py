"""Who is who, and what they prove it with: invitations, certificates, federation.json, all while the server runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from convoy.admin import views
from convoy.admin.port import Person
from convoy.control.records import SiteName
from convoy.errors import NotAllowed, Refused
from convoy.spec.kit import Kind, Kit
from convoy.spec.settings import Settings
from convoy.store.ledger import Ledger
from convoy.trust import enrolment, federation, keys, roll
from convoy.trust.authority import Authority
from convoy.trust.enrolment import Invite
from convoy.trust.federation import Federation, Roll
from convoy.wire.tls import Peer

DAY_S: Final = 86400.0


@dataclass(slots=True)
class Registry:
    """Implements `admin.port.Registrar`; `told` hears each new federation.json. The root's key is not here."""

    project: str
    root_pem: bytes
    issuing: Authority
    ledger: Ledger
    roll: Roll
    signed: bytes  # the federation.json that the roll stands in
    kit: Kit
    settings: Settings
    told: Callable[[Federation, bytes], None]

    @classmethod
    def of(cls, kit: Kit, settings: Settings, ledger: Ledger) -> Registry:
        """Return the registry of a server's kit; nobody is told yet. Raises `BadInput`, `NotAllowed`."""
        root_pem = kit.root_file.read_bytes()
        people, signed = federation.newest(kit.project, root_pem, *roll.known(kit))
        issuing = Authority.load_issuing(kit.project, *kit.issuing_files)
        return cls(kit.project, root_pem, issuing, ledger, Roll(people), signed, kit, settings, lambda *_: None)

    async def enrol(self, ask: views.EnrolAsk) -> views.CertificateView:
        """Certify the key of whoever holds a fresh join token. Raises `NotAllowed`."""
        key = enrolment.requested_key(ask.request.encode())
        token = enrolment.token_hash(ask.token, project=self.project, kind=ask.kind, name=ask.name)
        self._listed("site" if ask.kind == "site" else "admin", ask.name)
        now = time.time()
        invite = await asyncio.to_thread(self.ledger.redeem, token, key=enrolment.key_id(key), now=now)
        structlog.get_logger().info("enrolled", kind=invite.kind, name=invite.name)
        return views.CertificateView(certificate=self._certify(invite.kind, invite.name, key, now).decode())

    def renew(self, person: Person, request: str) -> views.CertificateView:
        """Certify another key of somebody who has logged in. Raises `NotAllowed`."""
        key = enrolment.requested_key(request.encode())
        return views.CertificateView(certificate=self._certify("admin", person.name, key, time.time()).decode())

    def renewed(self, site: str, request: bytes) -> tuple[Peer, bytes]:
        """Certify another key of a site that is connected; return it as its peer will see it, and the certificates."""
        now = time.time()
        pem = self._certify("site", site, enrolment.requested_key(request), now)
        return Peer(site, now, now + self.settings.site_certificate_life, renews=True), pem

    def _certify(self, kind: Kind, name: str, key: keys.PublicKey, now: float) -> bytes:
        life_s = self.settings.site_certificate_life if kind == "site" else self.settings.admin_certificate_life
        return self.issuing.certify(kind, name, key, now=now, days=life_s / DAY_S)

    def _listed(self, kind: Kind, name: str) -> None:
        known = self.roll.now.participants.get(name)
        if known is None or known.kind != kind:
            number = self.roll.now.number
            raise NotAllowed(f"{name} is no {kind} of {self.project}", why=f"federation.json number {number} says so")

    async def invite(self, person: Person, ask: views.InviteAsk) -> None:
        """Let a join token be used. Raises `NotAllowed` for somebody whom federation.json does not list."""
        self._listed(ask.kind, ask.name)
        structlog.get_logger().info("invited", by=person.name, kind=ask.kind, name=ask.name)
        invite = Invite(ask.hash, ask.kind, ask.name, min(ask.expires_at, time.time() + 366 * DAY_S))
        await asyncio.to_thread(self.ledger.write, [invite])

    async def publish(self, person: Person, signed: bytes) -> views.FederationView:
        """Take a newer federation.json, and tell everybody; the same one again is no news. Raises `Refused`."""
        new, old = federation.read(signed, self.root_pem), self.roll.now
        if new.project != self.project or new.number < old.number or (new.number == old.number and new != old):
            raise Refused(
                f"federation.json number {new.number} of {new.project} is not newer than what is known",
                why=f"this is {self.project}, and it knows number {old.number}",
                fix="publish the newest one",
            )
        if new != old:
            await asyncio.to_thread(roll.take, self.kit, signed)
            self.roll.now, self.signed = new, signed
            structlog.get_logger().info("federation.json is new", by=person.name, number=new.number)
            self.told(new, signed)
        return views.FederationView(number=new.number, sites=[SiteName(name) for name in new.sites()])
