"""The startup kit: the folder that one participant starts from."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from convoy.errors import BadInput
from convoy.spec import yamls

Kind = Literal["server", "site", "admin"]
PENDING: Final = "pending.key"  # in a participant's workspace: a key whose certificate is asked for
KINDS: Final[tuple[Kind, ...]] = ("server", "site", "admin")
_CERTIFICATES: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?")
_KEYS: Final = frozenset({"project", "kind", "name", "org", "server", "hosts"})


@dataclass(frozen=True, slots=True)
class Kit:
    """Who a participant is and where its files are."""

    root: Path
    project: str
    kind: Kind
    name: str
    org: str
    host: str  # the server's, as its participants reach it
    fed_port: int  # sites
    admin_port: int  # people
    work: Path  # what a node writes at run time
    hosts: tuple[str, ...] = ()  # every name in the server's certificate

    @property
    def startup(self) -> Path:
        """The part that provisioning wrote and nobody edits."""
        return self.root / "startup"

    @property
    def local(self) -> Path:
        """The part that its owner edits."""
        return self.root / "local"

    @property
    def transfer(self) -> Path:
        """Where an admin's jobs and results lie."""
        return self.root / "transfer"

    @property
    def root_file(self) -> Path:
        """The project's root certificate: the kit's, or what the newest federation.json has put in its place."""
        return self.roots_file if self.roots_file.exists() else self.startup / "root.crt"

    @property
    def roots_file(self) -> Path:
        """The roots that the newest federation.json names."""
        return self.work / "roots.pem"

    @property
    def identity_file(self) -> Path:
        """The key that the participant made itself, and its certificate, in one file: a new pair comes whole."""
        return self.work / "identity.pem"

    @property
    def cert_file(self) -> Path:
        """The file of the participant's certificate; its own has the key, too: show nobody more than `certificate`."""
        return self.identity_file if self.identity_file.exists() else self.startup / "node.crt"

    @property
    def key_file(self) -> Path:
        """The participant's private key: its own, or else the one that an offline kit came with."""
        return self.identity_file if self.identity_file.exists() else self.startup / "node.key"

    @property
    def certificate(self) -> bytes:
        """The participant's certificate and what stands between it and the root (PEM): what may be shown to others."""
        return b"".join(_CERTIFICATES.findall(self.cert_file.read_bytes()))

    @property
    def token_file(self) -> Path:
        """The join token that a kit without a key came with."""
        return self.startup / "join.token"

    @property
    def enrolled(self) -> bool:
        """Whether the participant has a key and a certificate."""
        return self.cert_file.is_file()

    @property
    def issuing_files(self) -> tuple[Path, Path]:
        """The key and the certificate of the server's issuing authority."""
        return self.startup / "issuing.key", self.startup / "issuing.crt"

    @property
    def lent_file(self) -> Path:
        """Key and certificate of an issuing authority that the server was lent while it ran."""
        return self.work / "issuing.pem"

    @property
    def accepted_file(self) -> Path:
        """The certificate, accepted by the server, of the key that was made for another issuing authority."""
        return self.work / "accepted.crt"

    @property
    def invites_file(self) -> Path:
        """What the server knows of the join tokens in the kits that were made with its own."""
        return self.startup / "invites.json"

    @property
    def pid_file(self) -> Path:
        """The number of the node's process while it runs, for stop.sh."""
        return self.root / "work" / "node.pid"

    @property
    def federation_file(self) -> Path:
        """Who is who, signed by the root."""
        return self.startup / "federation.json"


def read_kit(path: Path) -> Kit:
    """Return the kit in the folder `path`. Raises `BadInput` for a missing file, a bad one, or an open key."""
    root = path.resolve()
    if not (root / "startup" / "convoy.yaml").is_file():
        raise BadInput(
            f"{path} is not a startup kit",
            why="it has no startup/convoy.yaml",
            fix="name a participant's folder, such as workspace/example_project/prod_00/site-1",
        )
    kit = _described(root, yamls.load_file(root / "startup" / "convoy.yaml"))
    for file in (kit.root_file, *_secrets(kit), kit.federation_file):
        if not file.is_file():
            raise BadInput(
                f"the kit has no {file.relative_to(root)}",
                why=f"looked in {root}",
                fix="copy the whole kit again, or provision again",
            )
    for file in _secrets(kit):
        if file.suffix != ".crt":
            check_mode(file)
    check_closed(kit)
    return kit


def _secrets(kit: Kit) -> list[Path]:
    """Return the files by which a participant proves who it is, or will."""
    if kit.kind == "server":
        return list(kit.issuing_files)
    if not kit.enrolled and not kit.key_file.exists():
        return [kit.token_file]
    return [kit.key_file, kit.cert_file]


def check_closed(kit: Kit) -> None:
    """Raise `BadInput` if anybody on the machine may change what a participant starts from, or a site's last word.

    What a cluster mounts has whatever mode, and cannot be written at all.
    """
    for folder in (kit.startup, kit.local):
        for path in filter(Path.exists, (folder, *sorted(folder.iterdir())) if folder.is_dir() else ()):
            mode = path.stat().st_mode
            if mode & stat.S_IWOTH and not os.statvfs(path).f_flag & os.ST_RDONLY:
                raise BadInput(
                    f"{path} is writable for everybody",
                    why=f"its mode is {stat.S_IMODE(mode):04o}",
                    fix=f"chmod -R o-w {folder}",
                )


def check_mode(key: Path) -> None:
    """Raise `BadInput` if others than its owner may read or write a private key or a join token.

    Of a file that is not ours, as Kubernetes mounts a Secret (root's, for the pod's group), the group may read it.
    """
    said = key.stat()
    mode = said.st_mode & 0o777
    if mode & (0o077 if said.st_uid == os.geteuid() else 0o037):
        raise BadInput(
            f"the {'join token' if key.name == 'join.token' else 'private key'} {key} is readable for other users",
            why=f"its mode is {mode:04o}; wanted 0600",
            fix=f"chmod 600 {key}",
        )


def _described(root: Path, document: yamls.Document) -> Kit:
    """Return the kit that convoy.yaml describes."""
    data = document.mapping()
    for key in data:
        if key not in _KEYS:
            raise yamls.unknown_key(key, _KEYS, where=document.where((key,)))
    kind = _text(document, data, "kind")
    if kind not in KINDS:
        raise BadInput(f'"kind" is "{kind}"; wanted server, site or admin', where=document.where(("kind",)))
    server = data.get("server")
    if not isinstance(server, dict):
        raise BadInput('"server" is missing', fix="provision again", where=document.where(("server",)))
    hosts = data.get("hosts") or []
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise BadInput('"hosts" must be a list of names', where=document.where(("hosts",)))
    return Kit(
        root=root,
        work=root / "work",
        project=_text(document, data, "project"),
        kind=kind,
        name=_text(document, data, "name"),
        org=_text(document, data, "org"),
        host=_text(document, server, "host", "server"),
        fed_port=_port(document, server, "fed_port"),
        admin_port=_port(document, server, "admin_port"),
        hosts=tuple(hosts),
    )


def _text(document: yamls.Document, data: Mapping[str, Any], key: str, *above: str) -> str:
    """Return a piece of text that must be there."""
    value = data.get(key)
    if not isinstance(value, str) or not value:
        raise BadInput(f'"{key}" is {yamls.seen(value)}; wanted text', where=document.where((*above, key)))
    return value


def _port(document: yamls.Document, server: Mapping[str, Any], key: str) -> int:
    """Return a TCP port that must be there."""
    value = server.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise BadInput(
            f'"{key}" is {yamls.seen(value)}; wanted a port from 1 to 65535', where=document.where(("server", key))
        )
    return value
