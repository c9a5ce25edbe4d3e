"""`convoy kit enrol|renew|invite`, `site invite`, `federation publish`: who joins, and how they prove who they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.admin import client, joining
from convoy.cli.output import Screen
from convoy.errors import BadInput, ConvoyError
from convoy.provision import kits, rolling
from convoy.spec import yamls
from convoy.spec.kit import Kit, read_kit
from convoy.spec.project import Project, read_project, with_site
from convoy.spec.settings import at_home
from convoy.trust import enrolment, files
from convoy.trust.authority import Authority

if TYPE_CHECKING:
    from convoy.cli.asking import How


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
        raise BadInput("a server certifies itself", why=f"{folder} is the server's kit", fix=f"convoy run {folder}")
    if kit.enrolled and not token:
        raise BadInput(
            f"{kit.name} is enrolled already",
            why=f"its certificate is {kit.cert_file}",
            fix="with a new invitation: --token TOKEN; to see until when it is good: convoy kit inspect KIT",
        )
    asyncio.run(joining.enrol(kit, server=server, token=token))
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
            why="at half its life, while it runs",
            fix="once it is over: convoy site invite NAME, then convoy kit enrol KIT --token TOKEN",
        )
    _enrolled(screen, kit)


async def _renewed(kit: Kit, server: str) -> None:
    async with client.connect(kit, server=server) as person:
        await joining.renew(person, kit)


def invite(how: How, place: Place, name: str) -> None:
    """Make a join token for a participant of project.yml, and tell the server."""
    screen = Screen(json=how.json)
    made = kits.invite(place.project(), place.workspace, name, now=time.time())
    screen.line(f"{name} may join with the kit {made.kit}, or with a kit that it has:")
    screen.line(f"  convoy kit enrol KIT --token {made.token}")
    told = _told(how, screen, made.federation, made.known)
    screen.data({"kit": str(made.kit), "name": name, "expires_at": made.known.expires_at, "server_told": told})


def invite_site(how: How, place: Place, name: str, org: str) -> None:
    """Add a site to project.yml if it is not there, then invite it."""
    known = {site.name: site for site in place.project().sites}
    if name not in known:
        if not org:
            raise BadInput(f"{place.project_file} has no site {name!r}", fix=f"convoy site invite {name} --org ORG")
        text = with_site(yamls.read_text(place.project_file), name, org, file=str(place.project_file))
        mode = place.project_file.stat().st_mode & 0o777
        files.write(place.project_file, text.encode(), mode=mode)
    elif org and known[name].org != org:
        raise BadInput(f"{name} is of {known[name].org}", why=f"asked for {org}", fix="leave --org out")
    invite(how, place, name)


def issue(how: How, place: Place) -> None:
    """Let the server issue with another authority, certified by the root here."""
    project = place.project()

    async def lent(person: client.Client) -> None:
        asked = await person.ask_for_authority()
        pem = kits.lend(project, place.workspace, asked.encode(), now=time.time())
        await person.give_authority(pem.decode())

    how.ask(lambda to: lent(to.client))
    Screen(json=how.json).line("the server issues with another authority: it is good for 90 days, and sites renew now")


def roll(how: How, place: Place, step: str) -> None:
    """Do one step of putting another root in the place of this one, and tell everybody."""
    if step == "turn":
        issue(how, place)
    publish(how, place, rolling.step(step, place.project().name))
    Screen(json=how.json).line(_NEXT[step])


_NEXT = {
    "begin": "both roots are trusted; once every site and every admin was connected since: convoy federation roll turn",
    "turn": "the new root signs, sites renew now; days later: convoy federation roll finish",
    "finish": "the old root is trusted no more",
}


def publish(how: How, place: Place, step: Callable[[Path], None] | None = None) -> None:
    """Sign who is who as project.yml says it now, and give that to the running server."""
    screen = Screen(json=how.json)
    signed = kits.who_is_who(place.project(), place.workspace, now=time.time(), step=step)
    said: list[tuple[int, list[str]]] = []

    async def given(person: client.Client) -> None:
        found = await person.publish(signed)
        said.append((found.number, found.sites))

    how.ask(lambda to: given(to.client))
    number, sites = said[0]
    screen.data({"number": number, "sites": sites})
    screen.line(f"federation.json number {number} counts now: {len(sites)} sites")


def _told(how: How, screen: Screen, signed: bytes, known: enrolment.Invite) -> bool:
    """Tell the running server of an invitation; one that is not there reads it at its start."""

    async def tell(person: client.Client) -> None:
        await person.publish(signed)
        await person.invite(known.hash, known.kind, known.name, known.expires_at)

    try:
        how.ask(lambda to: tell(to.client), patience_s=0)
    except ConvoyError as problem:
        screen.line(f"the server was not told: {problem.what}")
        screen.line("it knows when it starts from its kit there; or run this again while it runs")
        return False
    screen.line("the server knows")
    return True
