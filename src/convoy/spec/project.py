"""project.yml: one federation and everybody in it, as frozen checked data; NVIDIA FLARE's files are read too."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from convoy.errors import BadInput
from convoy.spec import names, yamls

Port = Annotated[int, Field(ge=1, le=65535)]
ADMIN_PORT: Final = 8003

_KNOWN: Final = ("api_version", "name", "description", "participants")
# What NVIDIA FLARE 2.4 to 2.9 reads and Convoy does not need; named to the person, never silently dropped.
_IGNORED: Final = {
    "builders": "Convoy makes its kits itself",
    "packager": "Convoy makes its kits itself",
    "studies": "not supported",
    "edge": "not supported",
    "connection_security": "always mutual TLS",
    "scheme": "always TLS over TCP",
    "allow_log_streaming": "log lines of a job are always streamed",
    "server_name": "the server's own name is used",
    "app_location": "job folders are sent as bundles",
}
_IGNORED_OF_PARTICIPANTS: Final = {
    "connect_to": "sites reach the server by its default_host",
    "listening_host": "sites accept no connections",
    "connection_security": "always mutual TLS",
    "custom_ca_cert": "only the project's root is trusted",
    "auth_identity": "the certificate determines the identity",
    "capacity": "set it in the site's local/node.yaml",
    "allow_log_streaming": "log lines of a job are always streamed",
    "use_aio": "always",
    "scheme": "always TLS over TCP",
    "edge_service_port": "not supported",
    "cc_config": "not supported",
    "enable_byoc": "a site's local/policy.yaml says who may run code",
    "components": "the site's local/ folder decides",
    "props": "not supported",
    "protocol": "always TLS over TCP",
    "api_root": "not supported",
}
_IGNORED_TYPES: Final = {"overseer": "not needed with one server", "relay": "sites connect to the server themselves"}


class Participant(BaseModel):
    """What servers, sites and admins have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    org: Annotated[str, AfterValidator(names.org)]


class Server(Participant):
    """The coordinator; it is reached at `host`."""

    name: Annotated[str, AfterValidator(names.host_name)]
    fed_learn_port: Port = 8002
    admin_port: Port = ADMIN_PORT
    default_host: Annotated[str, AfterValidator(names.host)] | None = None
    host_names: Annotated[tuple[Annotated[str, AfterValidator(names.host)], ...], Field(strict=False)] = ()

    @property
    def host(self) -> str:
        """Where sites and people reach it."""
        return self.default_host or self.name

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every name it may be reached at, its own first."""
        return tuple(dict.fromkeys([self.name, self.host, *self.host_names]))


class Site(Participant):
    """A participant that trains."""

    name: Annotated[str, AfterValidator(names.site)]


class Admin(Participant):
    """A person."""

    name: Annotated[str, AfterValidator(names.person)]
    role: names.Role


_TYPES: Final[dict[str, type[Participant]]] = {"server": Server, "client": Site, "site": Site, "admin": Admin}


class Project(BaseModel):
    """One federation."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    api_version: Literal[3, 4]
    name: Annotated[str, AfterValidator(names.word)]
    description: str = ""
    server: Server
    sites: tuple[Site, ...] = ()
    admins: tuple[Admin, ...] = ()


class _Head(BaseModel):
    """The top of the file, without its participants."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    api_version: Literal[3, 4]
    name: Annotated[str, AfterValidator(names.word)]
    description: str | None = None


def read_project(text: str, name: str) -> tuple[Project, list[str]]:
    """Return the project that a project.yml describes, and what in the file was ignored, a sentence each.

    `name` is the file's, for messages. Raises `BadInput` with file and line.
    """
    document = yamls.load(text, name=name)
    top = document.mapping()
    ignored: list[str] = []
    head = _take(document, top, (), known=_KNOWN, passed_over=_IGNORED, ignored=ignored)
    listed = head.pop("participants", None)
    if not isinstance(listed, list) or not listed:
        raise BadInput(
            '"participants" must list a server, its sites and its admins', where=document.where(("participants",))
        )
    read = yamls.parse(document, _Head, head)
    types = [item.get("type") for item in listed if isinstance(item, dict)]
    if "server" not in types and all(kind in (*_TYPES, *_IGNORED_TYPES) for kind in types):
        raise _no_server(document)  # before the server's keys are called unknown where the type alone is wrong
    participants = [
        (index, made)
        for index, item in enumerate(listed)
        if (made := _participant(document, index, item, ignored)) is not None
    ]
    _check_unique(document, participants)
    project = Project(
        api_version=read.api_version,
        name=read.name,
        description=read.description or "",
        server=_one_server(document, participants),
        sites=tuple(made for _, made in participants if isinstance(made, Site)),
        admins=tuple(made for _, made in participants if isinstance(made, Admin)),
    )
    return project, ignored


def with_site(text: str, name: str, org: str, *, file: str) -> str:
    """Return a project.yml with one more site at the end of its list, and nothing else changed.

    Raises `BadInput` for a name that does not do, and for a file in which that place cannot be found.
    """
    before, _ = read_project(text, file)
    document, lines = yamls.load(text, name=file), text.splitlines()
    count = len(document.mapping()["participants"])
    start, _ = document.places[("participants", count - 1)]
    dash = lines[start - 1].find("-")
    end = start
    for number in range(start + 1, len(lines) + 1):
        line = lines[number - 1]
        if line.strip() and not line.lstrip().startswith("#"):
            if len(line) - len(line.lstrip()) <= dash:
                break
            end = number
    new = f"{' ' * max(dash, 0)}- {{name: {name}, type: client, org: {org}}}"
    changed = "\n".join([*lines[:end], new, *lines[end:]]) + "\n"
    try:
        after, _ = read_project(changed, file)
    except BadInput:
        after = before
    if after.sites[:-1] != before.sites or after.sites[-1:] != (Site(name=name, org=org),):
        raise BadInput(
            f"{name} cannot be written into {file}",
            why="its list of participants has an unusual form, or the name is not allowed",
            fix=f"add `- {{name: {name}, type: client, org: {org}}}` to the file yourself, and invite the site again",
        )
    return changed


def _participant(document: yamls.Document, index: int, item: Any, ignored: list[str]) -> Participant | None:
    """Return the participant that an item of the list describes, or None for a type that Convoy ignores."""
    path = ("participants", index)
    if not isinstance(item, dict):
        raise BadInput(
            f"{yamls.seen(item)} is not a participant", fix="write name, type and org", where=document.where(path)
        )
    kind = item.get("type")
    where = document.where((*path, "type"))
    if not isinstance(kind, str):
        raise BadInput(f'"type" is {yamls.seen(kind)}; wanted server, client or admin', where=where)
    if kind in _IGNORED_TYPES:
        ignored.append(f"{where}: {kind} {item.get('name', '')} ({_IGNORED_TYPES[kind]})")
        return None
    if kind not in _TYPES:
        raise BadInput(f'"type" is {yamls.seen(kind)}; wanted server, client or admin', where=where)
    model = _TYPES[kind]
    known = (*model.model_fields, "type")
    data = _take(document, item, path, known=known, passed_over=_IGNORED_OF_PARTICIPANTS, ignored=ignored)
    del data["type"]
    if kind == "server":
        _two_ports(document, path, data, ignored)
    return yamls.parse(document, model, data, at=path)


def _take(
    document: yamls.Document,
    data: dict[str, Any],
    path: tuple[str | int, ...],
    *,
    known: Collection[str],
    passed_over: dict[str, str],
    ignored: list[str],
) -> dict[str, Any]:
    """Return the known keys; note those that are passed over. Raises `BadInput` for any other, as a typo."""
    taken = {}
    for key, value in data.items():
        where = document.where((*path, key))
        if key in known:
            taken[key] = value
        elif key in passed_over:
            ignored.append(f"{where}: {key} ({passed_over[key]})")
        else:
            raise yamls.unknown_key(key, known, where=where)
    return taken


def _two_ports(document: yamls.Document, path: tuple[str | int, ...], data: dict[str, Any], ignored: list[str]) -> None:
    """Give people a port of their own where the file has none, or the sites' (as newer FLARE files do)."""
    fed_port = data.get("fed_learn_port", 8002)
    asked = data.get("admin_port", ADMIN_PORT)
    if not isinstance(fed_port, int) or asked != fed_port:
        return
    data["admin_port"] = fed_port + 1 if fed_port < 65535 else fed_port - 1
    if "admin_port" in data:
        ignored.append(
            f"{document.where((*path, 'admin_port'))}: admin_port {asked} "
            f"(sites use this port; people get a port of their own: {data['admin_port']})"
        )


def _check_unique(document: yamls.Document, participants: list[tuple[int, Participant]]) -> None:
    """Raise `BadInput` for the second of two names that a file system might take for one."""
    first: dict[str, int] = {}
    for index, participant in participants:
        key = participant.name.casefold()
        if key in first:
            earlier = document.where(("participants", first[key], "name"))
            raise BadInput(
                f'a second participant has the name "{participant.name}"',
                why=f"the first is at {earlier}; upper and lower case make no difference",
                fix="give each participant a different name",
                where=document.where(("participants", index, "name")),
            )
        first[key] = index


def _one_server(document: yamls.Document, participants: list[tuple[int, Participant]]) -> Server:
    """Return the one server. Raises `BadInput` for none or more."""
    servers = [(index, made) for index, made in participants if isinstance(made, Server)]
    if not servers:
        raise _no_server(document)
    if len(servers) > 1:
        raise BadInput(
            f'"{servers[1][1].name}" is a second server',
            why=f'a project has exactly one server, and it already has "{servers[0][1].name}"',
            fix="remove one of them",
            where=document.where(("participants", servers[1][0], "type")),
        )
    return servers[0][1]


def _no_server(document: yamls.Document) -> BadInput:
    return BadInput(
        "there is no server among the participants",
        why="a project has exactly one server",
        fix="add one with `type: server`",
        where=document.where(("participants",)),
    )
