"""The handlers of routes about participants: join tokens, certificates, federation.json, who was revoked."""

from __future__ import annotations

from starlette.responses import Response

from convoy.admin import views
from convoy.admin.route import Answer, Call
from convoy.trust import federation as federations


async def enrol(call: Call) -> Answer:
    """Certify the key of a caller with a join token."""
    ask = await call.read(views.EnrolAsk)
    given = await call.services.registrar.enrol(ask)
    call.of.note(f"{ask.kind}:{ask.name}", "enrol", call.thing)
    return given


async def renew(call: Call) -> Answer:
    """Certify a new key of the caller."""
    ask = await call.read(views.RenewAsk)
    return call.services.registrar.renew(call.noted("renew"), ask.request)


async def invite(call: Call) -> Answer:
    """Register a join token."""
    ask = await call.read(views.InviteAsk)
    await call.services.registrar.invite(call.noted("invite", f"{ask.kind}:{ask.name}"), ask)
    return views.Done()


async def invites(call: Call) -> Answer:
    """List the join tokens, without their hashes."""
    return await call.services.registrar.invites()


async def people(call: Call) -> Answer:
    """List everybody who may log in."""
    return call.of.people()


async def publish(call: Call) -> Answer:
    """Accept a newer federation.json."""
    signed = await call.body(federations.MAX_BYTES)
    new = federations.read(signed, call.services.logins.membership.root_pem)
    return await call.services.registrar.publish(call.noted("federation", f"number:{new.number}"), new, signed)


async def who(call: Call) -> Answer:
    """Send the current federation.json."""
    return Response(call.services.registrar.signed, media_type="application/json")


async def ask_for_authority(call: Call) -> Answer:
    """Send the request for a new issuing authority, which the holder of the root certifies."""
    return await call.services.registrar.ask_for_authority(call.grant)


async def take_authority(call: Call) -> Answer:
    """Issue with the new authority from now on."""
    ask = await call.read(views.CertificateView)
    await call.services.registrar.take_authority(call.noted("authority"), ask.certificate)
    return views.Done()
