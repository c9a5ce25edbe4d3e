"""`convoy kit enrol|renew|invite`, `site invite`, `federation publish`: who joins, and how they prove who they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from convoy.admin import client, joining
from convoy.cli.output import Screen
from convoy.errors import BadInput, Refused, Unreachable
from convoy.provision import kits, rolling
from convoy.spec import yamls
from convoy.spec.kit import Kit, read_kit
from convoy.spec.project import Project, read_project, with_site
from convoy.spec.settings import at_home
from convoy.trust import audit, enrolment, files
from convoy.trust.authority import Authority

if TYPE_CHECKING:
    from convoy.cli.connecting import Asked, How


PATIENCE_S: Final = 10.0  # of a person at `kit enrol`, for a server that does not answer


@dataclass(frozen=True, slots=True)
class Place:
    """A project file and the workspace of its kits."""

    project_file: Path
    workspace: Path

    def project(self) -> Project:
        """Return the project. Raises `BadInput`."""
        return read_project(yamls.read_text(self.project_file), str(self.project_file))[0]


def enrol(screen: Screen, folder: Path, *, token: str, server: str) -> None:
    """Get a kit's certificate for a join token, now."""
    if token:
        enrolment.read_token(token)
    kit = _whole(folder, token)
    if kit.kind == "server":
        raise BadInput(
            "a server issues its own certificate", why=f"{folder} is the server's kit", fix=f"convoy run {folder}"
        )
    if kit.enrolled and not token:
        raise BadInput(
            f"{kit.name} is already enrolled",
            why=f"its certificate is {kit.cert_file}",
            fix="for a new invitation: --token TOKEN; to see when the certificate expires: convoy kit inspect KIT",
        )
    asyncio.run(joining.enrol(kit, server=server, token=token, patience_s=PATIENCE_S))
    _enrolled(screen, kit)


def _whole(folder: Path, token: str) -> Kit:
    """Return a kit that may lack its own join token where another one is given."""
    file = folder / "startup" / "join.token"
    if token and file.parent.is_dir():
        files.write(file, f"{token.strip()}\n".encode(), mode=0o600)
    return at_home(read_kit(folder))


def _enrolled(screen: Screen, kit: Kit) -> None:
    screen.data({"kind": kit.kind, "name": kit.name, "identity": str(kit.identity_file)})
    screen.line(f"{kit.kind} {kit.name} has a new key and a certificate for it: {kit.identity_file}")


def renew(screen: Screen, folder: Path, *, server: str) -> None:
    """Get a certificate for another key: of the server; of the root, where its key is beside the kit."""
    kit = at_home(read_kit(folder))
    state = kit.root.parent.parent / "state"
    if (state / "root.key").exists() and kit.kind != "server":
        joining.renew_here(kit, Authority.load(state))
    elif kit.kind == "admin":
        asyncio.run(_renewed(kit, server))
    else:
        raise BadInput(
            f"a {kit.kind} renews its certificate by itself",
            why="after half of the certificate's lifetime, while it runs",
            fix="for a new issuing authority of the server: convoy federation issue"
            if kit.kind == "server"
            else "if the certificate has expired: convoy site invite NAME, then convoy kit enrol KIT --token TOKEN",
        )
    _enrolled(screen, kit)


async def _renewed(kit: Kit, server: str) -> None:
    async with client.connect(kit, server=server) as person:
        await joining.renew(kit, person.renew)


def invite(how: How, place: Place, name: str) -> None:
    """Make a join token for a participant of project.yml, and tell the server."""
    screen = Screen(json=how.json)
    made = kits.invite(place.project(), place.workspace, name, now=time.time())
    screen.line(f"{name} may join with the kit {made.kit}, or with its existing kit:")
    screen.line(f"  convoy kit enrol KIT --token {made.token}")
    told = _told(how, screen, place.project(), made)
    screen.data({"kit": str(made.kit), "name": name, "expires_at": made.known.expires_at, "server_told": told})


def invite_site(how: How, place: Place, name: str, org: str) -> None:
    """Add a site to project.yml if it is not there, then invite it."""
    known = {site.name: site for site in place.project().sites}
    if name not in known:
        if not org:
            raise BadInput(
                f"{place.project_file} does not list a site {name!r}", fix=f"convoy site invite {name} --org ORG"
            )
        text = with_site(yamls.read_text(place.project_file), name, org, file=str(place.project_file))
        mode = place.project_file.stat().st_mode & 0o777
        files.write(place.project_file, text.encode(), mode=mode)
    elif org and known[name].org != org:
        raise BadInput(f"{name} belongs to {known[name].org}", why=f"asked for {org}", fix="leave --org out")
    invite(how, place, name)


def issue(how: How, place: Place) -> None:
    """Let the server issue with another authority, certified by the root here."""
    how.ask(lambda to: _lend(to, place))


async def _lend(to: Asked, place: Place) -> None:
    project = place.project()
    asked = await to.client.ask_for_authority()
    pem = kits.lend(project, place.workspace, asked.encode(), now=time.time())
    await to.client.give_authority(pem.decode())
    to.screen.line("the server uses a new issuing authority, valid for 90 days; sites renew their certificates now")


def roll(how: How, place: Place, step: str, *, force: bool = False) -> None:
    """Do one step of putting another root in the place of this one, and tell everybody.

    Raises `BadInput` where it is not the next one, and `Refused` for a `turn` that would lock somebody out, but with
    `force`.
    """
    project = place.project()
    state = kits.state_of(project, place.workspace)
    rolling.check(step, state)

    async def done(to: Asked) -> None:
        if step == "turn":
            if not force and (missing := await _missing(to.client, project, rolling.begun_at(state))):
                raise Refused(
                    f"{', '.join(missing)} cannot know the new root yet",
                    why="no connection and no login since `roll begin`: they would be locked out",
                    fix="wait for them; or add --force, then `convoy kit invite NAME` for each, and hand over the kits",
                )
            await _lend(to, place)
        await _publish(to, place, rolling.step(step, project.name))
        to.screen.line(_NEXT[step])

    how.ask(done)


async def _missing(person: client.Client, project: Project, since: float) -> list[str]:
    """Return who has not met the server since, and so cannot have the newest federation.json."""
    met = {site.name for site in await person.sites() if site.connected or site.seen_at > since}
    async for entry in person.audit():
        if isinstance(entry, audit.Record) and entry.action == "login" and entry.at > since * 1000:
            met.add(entry.actor.removeprefix("admin:"))
    return [one.name for one in (*project.sites, *project.admins) if one.name not in met]


_NEXT = {
    "begin": "both roots are trusted; when all sites and admins have connected: convoy federation roll turn",
    "turn": "the new root signs now, and sites renew their certificates; days later: convoy federation roll finish",
    "finish": "the old root is no longer trusted",
}


def publish(how: How, place: Place) -> None:
    """Sign who is who as project.yml says it now, and give that to the running server."""
    how.ask(lambda to: _publish(to, place))


async def _publish(to: Asked, place: Place, step: Callable[[Path], None] | None = None) -> None:
    """Sign and give; nothing is written here before the server has let this person in. Raises `Refused`."""
    project = place.project()
    await to.client.status()
    _keep_in(project, to.kit.name)
    signed = kits.who_is_who(project, place.workspace, now=time.time(), step=step)
    found = await to.client.publish(signed)
    to.screen.data({"number": found.number, "sites": found.sites})
    to.screen.line(f"federation.json number {found.number} is in effect: {len(found.sites)} sites")


def _keep_in(project: Project, name: str) -> None:
    """Raise `Refused` for a project in which whoever publishes it could not publish the next one."""
    if not any(one.name == name and one.role == "project_admin" for one in project.admins):
        raise Refused(
            f"{name} would be locked out",
            why="project.yml does not list this name as a project_admin",
            fix="add it again, or let another project_admin publish this: --kit FOLDER",
        )


def _told(how: How, screen: Screen, project: Project, made: kits.Invitation) -> bool:
    """Tell the running server of an invitation; one that does not run, and whose kit is here, reads it at its start."""
    known = made.known

    async def tell(to: Asked) -> None:
        _keep_in(project, to.kit.name)
        await to.client.publish(made.federation)
        await to.client.invite(known.hash, known.kind, known.name, known.expires_at)

    try:
        how.ask(tell, patience_s=0)
    except Unreachable as problem:
        if not made.server_has:
            raise
        screen.line(f"the server was not told: {problem.what}")
        screen.line("run this command again while the server runs; or start the server from its new kit")
        return False
    screen.line("the server was told")
    return True
