"""A project becomes kits: one folder for each participant, all of them at once or none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from convoy.errors import BadInput
from convoy.provision import rolling, sample, scripts
from convoy.spec.kit import Kind
from convoy.spec.project import Admin, Participant, Project, Server
from convoy.trust import enrolment, federation, files, keys
from convoy.trust.authority import Authority
from convoy.trust.enrolment import Invite
from convoy.trust.federation import Federation

_PROD: Final = re.compile(r"prod_(\d{2,6})")
_OWN: Final = 0o700  # for its owner alone


@dataclass(frozen=True, slots=True)
class _Maker:
    """What every kit of one run is made from."""

    project: Project
    authority: Authority
    state: Path
    federation: bytes
    now: float
    last: Path | None  # the prod_NN before this one
    offline: bool  # kits come with ready keys
    invites: list[Invite]


def provision(project: Project, workspace: Path, *, now: float, offline: bool = False) -> Path:
    """Make `workspace/<project>/prod_NN` with a kit for each participant and return it.

    A kit of a site or an admin holds a join token; with `offline`, a key and a certificate: keys that
    `workspace/<project>/state` holds are used again, certificates are always new ones. The root is made once.
    Nothing of a run that fails is left as a prod_NN. Raises `BadInput` for a workspace of another project.
    """
    folder = workspace / project.name
    _refuse_other(project, workspace)
    state = folder / "state"
    state.mkdir(mode=_OWN, parents=True, exist_ok=True)
    with _alone(state):
        authority = _root(project, folder, now)
        people = _who_is_who(project, state, authority)
        maker = _Maker(project, authority, state, people, now, newest(folder), offline, [])
        building = _fresh(folder)
        for participant in (*project.sites, *project.admins, project.server):  # whose kit knows all invitations
            _kit(maker, participant, building / participant.name)
        os.sync()
        return building.rename(folder / f"prod_{_next(folder):02d}")


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an invitation made: the participant's kit, its join token, and what the server is to know.

    `server_has` says that the server's kit lies here, too, and has it.
    """

    kit: Path
    token: str = field(repr=False)
    known: Invite
    federation: bytes
    server_has: bool


def invite(project: Project, workspace: Path, name: str, *, now: float) -> Invitation:
    """Make a join token for a participant of a provisioned project, and its kit if it has none yet.

    The newest prod_NN gets both, and the server's kit if it lies there: a server that starts from it knows of it.
    Raises `BadInput` for a name that project.yml does not have, or a project that was never provisioned.
    """
    folder = workspace / project.name
    prod = newest(folder)
    invited = next((one for one in (*project.sites, *project.admins) if one.name == name), None)
    if prod is None:
        raise BadInput(f"{project.name} is not provisioned in {workspace}", fix="convoy provision")
    if invited is None:
        raise BadInput(
            f"project.yml has no site and no admin {name!r}", fix="add it there, or run `convoy site invite`"
        )
    with _alone(folder / "state"):
        authority = _root(project, folder, now)
        people = _who_is_who(project, folder / "state", authority)
        maker = _Maker(project, authority, folder / "state", people, now, prod, offline=False, invites=[])
        if (prod / name).exists():
            _proof(maker, invited, kind_of(invited), building := _fresh(folder))
            startup = prod / name / "startup"
            (building / "join.token").replace(startup / "join.token")
            _renew_trust(startup, folder / "state", people)  # who missed another root comes back with this kit
        else:
            _kit(maker, invited, building := _fresh(folder) / name)
            building.rename(prod / name)
        server = prod / project.server.name / "startup"
        if (server / "invites.json").exists():  # else the server's machine has it: the running server is told
            known = enrolment.invites_from_json((server / "invites.json").read_bytes())
            keys.save(server / "invites.json", enrolment.invites_to_json([*known, *maker.invites]))
        _tell_server(server, folder / "state", people)
    token = (prod / name / "startup" / "join.token").read_text().strip()
    return Invitation(prod / name, token, maker.invites[0], people, server.is_dir())


def who_is_who(project: Project, workspace: Path, *, now: float, step: Callable[[Path], None] | None = None) -> bytes:
    """Return the signed federation.json of a provisioned project as its project.yml is now. Raises `BadInput`.

    `step` is a step of `rolling`, which changes whom everybody trusts.
    """
    folder = workspace / project.name
    state, prod = folder / "state", newest(folder)
    if prod is None:
        raise BadInput(f"{project.name} is not provisioned in {workspace}", fix="convoy provision")
    with _alone(state):
        if step is not None:
            step(state)
        roots = rolling.listed(state) if step is not None else None
        people = _who_is_who(project, state, _root(project, folder, now), roots)
        _tell_server(prod / project.server.name / "startup", state, people)
    return people


def _tell_server(startup: Path, state: Path, people: bytes) -> None:
    """Let a server that starts from its kit here know what is new, unless the kit is on the server's machine."""
    if startup.is_dir():
        _renew_trust(startup, state, people)


def _renew_trust(startup: Path, state: Path, people: bytes) -> None:
    files.write(startup / "root.crt", rolling.trusted(state), mode=0o644)
    files.write(startup / "federation.json", people, mode=0o644)


def state_of(project: Project, workspace: Path) -> Path:
    """Return where the root of a provisioned project lies. Raises `BadInput`."""
    if newest(workspace / project.name) is None:
        raise BadInput(f"{project.name} is not provisioned in {workspace}", fix="convoy provision")
    return workspace / project.name / "state"


def lend(project: Project, workspace: Path, request: bytes, *, now: float) -> bytes:
    """Return the certificate for another issuing authority of the server, by the root that comes if there is one."""
    folder = workspace / project.name
    with _alone(folder / "state"):
        _root(project, folder, now)
        return rolling.newest(folder / "state").lend(enrolment.requested_key(request), now=now)


def _fresh(folder: Path) -> Path:
    """Return a new folder that becomes a prod_NN, or a part of one, when it is whole."""
    building = folder / ".building"
    shutil.rmtree(building, ignore_errors=True)  # of a run that was killed
    building.mkdir(mode=_OWN)
    return building


def newest(folder: Path) -> Path | None:
    """Return the newest prod_NN in a project's folder of a workspace, or None."""
    number = _next(folder) - 1
    return folder / f"prod_{number:02d}" if number >= 0 else None


def _refuse_other(project: Project, workspace: Path) -> None:
    """Raise `BadInput` if the workspace holds the root of a project with another name."""
    for other in sorted(workspace.glob("*/state/root.crt")):
        name = other.parent.parent.name
        if name != project.name:
            raise BadInput(
                f"{workspace} holds the project {name}, not {project.name}",
                why="a project with a different name has a different root, and existing kits would not work with it",
                fix=f"change the name back to {name}; or, for a new federation, provision into another workspace (-w)",
            )


def _root(project: Project, folder: Path, now: float) -> Authority:
    """Return the project's root, made now if the project is new."""
    state = folder / "state"
    rolling.mend(state)
    if (state / "root.crt").exists():
        return _same(project, Authority.load(state), folder)
    if _next(folder) or (state / "federation.json").exists():
        raise BadInput(
            f"{state / 'root.crt'} is missing, but kits were made from it",
            why="a new root would lock out every participant that has one of these kits",
            fix=f"restore the state folder from a copy; to start again, move {folder} away",
        )
    return Authority.create(project.name, state, now=now)


def _same(project: Project, authority: Authority, folder: Path) -> Authority:
    """Return the root as it is. Raises `BadInput` if it was made for a project of another name."""
    if authority.project != project.name:
        raise BadInput(
            f"{folder} holds the root of {authority.project}, not of {project.name}",
            why="the folder was renamed, or copied from another workspace; its certificates have the old name",
            fix=f"name the project and its folder {authority.project} again, or provision into another workspace (-w)",
        )
    return authority


def _who_is_who(project: Project, state: Path, authority: Authority, roots: tuple[bytes, ...] | None = None) -> bytes:
    """Return the signed federation.json; its number rises if it says something else than the last one.

    With `roots`, these are trusted from now on; without, those that were.
    """
    everybody = {
        participant.name: federation.Participant(
            kind_of(participant), participant.org, participant.role if isinstance(participant, Admin) else ""
        )
        for participant in (project.server, *project.sites, *project.admins)
    }
    file = state / "federation.json"
    last = federation.read(file.read_bytes(), rolling.ever(state)) if file.exists() else None
    before = last.roots if last else ()
    trusted = before if roots is None else tuple(root.decode() for root in roots)
    retired = tuple(root.decode() for root in rolling.retired(state))
    if last and (dict(last.participants), before, last.retired) == (everybody, trusted, retired):
        return file.read_bytes()
    number = last.number + 1 if last else 1
    data = federation.sign(Federation(project.name, number, everybody, trusted, retired), authority.key)
    files.write(file, data, mode=0o644)
    return data


def _kit(maker: _Maker, participant: Participant, folder: Path) -> None:
    """Write one participant's kit."""
    kind = kind_of(participant)
    startup, local = folder / "startup", folder / "local"
    for made in (folder, startup, local):
        made.mkdir(mode=_OWN)
    _write(startup / "convoy.yaml", description(maker.project, participant, kind))
    _write(startup / "root.crt", rolling.trusted(maker.state))
    _write(startup / "federation.json", maker.federation)
    _proof(maker, participant, kind, startup)
    if kind == "admin":
        (folder / "transfer").mkdir(mode=_OWN)
        _write(startup / "fl_admin.sh", scripts.console(), mode=0o755)
        return
    _write(startup / "start.sh", scripts.start(kind), mode=0o755)
    _write(startup / "stop.sh", scripts.stop(kind), mode=0o755)
    _write(local / "node.yaml", _kept(maker, participant, "node.yaml") or sample.node(kind))
    if kind == "site":
        _write(local / "policy.yaml", _kept(maker, participant, "policy.yaml") or sample.POLICY)
        if approved := _kept(maker, participant, "approved.yaml"):
            _write(local / "approved.yaml", approved)


def _kept(maker: _Maker, participant: Participant, name: str) -> str:
    """Return a settings file as it stands in the participant's last kit, or nothing: it is the owner's."""
    file = maker.last / participant.name / "local" / name if maker.last else None
    return file.read_text() if file and file.is_file() else ""


def _proof(maker: _Maker, participant: Participant, kind: Kind, startup: Path) -> None:
    """Write what a participant proves with who it is: the server certifies the others' keys, and its own."""
    if kind == "server":
        key_pem, cert_pem = maker.authority.issuing(now=maker.now)
        _write(startup / "issuing.crt", cert_pem)
        _write(startup / "issuing.key", key_pem, mode=0o600)
        _write(startup / "invites.json", enrolment.invites_to_json(maker.invites), mode=0o600)
    elif maker.offline:
        key_pem, cert_pem = _identity(maker, participant, kind)
        _write(startup / "node.crt", cert_pem)
        _write(startup / "node.key", key_pem, mode=0o600)
    else:
        token, name = enrolment.make_token(), participant.name
        maker.invites.append(enrolment.invite(token, project=maker.project.name, kind=kind, name=name, now=maker.now))
        _write(startup / "join.token", f"{token}\n", mode=0o600)


def _identity(maker: _Maker, participant: Participant, kind: Kind) -> tuple[bytes, bytes]:
    """Return a participant's key, the one it has had since its first kit, and a new certificate for it."""
    file = maker.state / "keys" / kind / f"{participant.name}.key"
    key = keys.load(file) if file.exists() else None
    key_pem, cert_pem = maker.authority.issue(kind, participant.name, key=key, now=maker.now)
    if key is None:
        file.parent.mkdir(mode=_OWN, parents=True, exist_ok=True)
        keys.save(file, key_pem)
    return key_pem, cert_pem


def description(project: Project, participant: Participant, kind: Kind) -> str:
    """Return startup/convoy.yaml: who this is and where the server is."""
    server = project.server
    said: dict[str, object] = {
        "project": project.name,
        "kind": kind,
        "name": participant.name,
        "org": participant.org,
        "server": {"host": server.host, "fed_port": server.fed_learn_port, "admin_port": server.admin_port},
    }
    if kind == "server":
        said["hosts"] = list(server.hosts)
    head = "# Written by `convoy provision`; provision again rather than editing it.\n"
    return head + yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


def kind_of(participant: Participant) -> Kind:
    """Return what kind of kit a participant gets."""
    return "server" if isinstance(participant, Server) else "admin" if isinstance(participant, Admin) else "site"


def _write(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a new file of exactly this mode; it never has a wider one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask says
        file.write(content.encode() if isinstance(content, str) else content)


def _next(folder: Path) -> int:
    """Return the number that the next prod_NN gets."""
    taken = [int(match[1]) for path in folder.glob("prod_*") if (match := _PROD.fullmatch(path.name))]
    return max(taken, default=-1) + 1


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the project's lock. Raises `BadInput` while another process provisions it."""
    with (state / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(
                f"another `convoy provision` is working on {state.parent}", fix="wait until it has ended"
            ) from error
        yield
