"""A node's settings, from local/node.yaml: each with its default, unit and reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from convoy.errors import BadInput
from convoy.spec import hardware, names, units, yamls
from convoy.spec.kit import Kit

if TYPE_CHECKING:
    from convoy.spec.pods import Pods  # pydantic comes with the first pod, not before

LogFormat = Literal["text", "json"]
LAUNCHERS: Final = ("processes", "kubernetes")


@dataclass(frozen=True, slots=True)
class Grants:
    """What jobs may use on this machine beside their own files and the named data; paths are absolute."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: bool = False
    cache: str = ""  # a folder that all jobs here share, for models that libraries download; "": each job has its own


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where a server sends all jobs: an absolute folder, a URI and a project; `env` is for the trackers' libraries."""

    tensorboard: str = ""
    mlflow: str = ""
    wandb: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the owner of a node decides; sizes are bytes."""

    workspace: Path
    health_host: str = "127.0.0.1"
    health_port: int = 8004
    listen_host: str = "::"  # IPv6 and IPv4; a server is there to be reached; mTLS decides who gets in
    max_jobs: int = 4
    database: str = ""
    results: str = ""
    cpu: float = 0.0
    memory: int = 0
    gpu: float = 0.0
    data: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    log_format: LogFormat = "text"
    disk_reserve: int = 256 << 20
    traces: str = ""  # the address of a collector of OpenTelemetry; "": none, unless the environment names one
    artifacts: int = 1 << 30  # bytes of artifacts/: a site keeps them of all jobs, a server takes them of each job
    site_certificate_life: float = 24 * 3600.0  # seconds
    admin_certificate_life: float = 8 * 3600.0
    launcher: str = "processes"  # where jobs' workers run: as this node's own processes, or as Kubernetes Jobs
    workers_port: int = 8005  # where those in pods find their node
    isolation: Grants = Grants()
    custom_workflows: tuple[str, ...] = ("project_admin",)  # roles whose jobs may bring a workflow of their own
    track: Tracked | None = None  # experiment trackers that get every job; None: none
    pods: Pods | None = None  # how those pods are made; None: `launcher` is "processes"

    @property
    def missing_data(self) -> list[str]:
        """The data whose path is not there, as "name: path"; what is at an address (`s3://…`) is not looked for."""
        here = {name: place for name, place in self.data.items() if "://" not in place}
        return [f"{name}: {place}" for name, place in here.items() if not Path(place).exists()]


def at_home(kit: Kit) -> Kit:
    """Return a node's kit with the workspace that its settings name. Raises `BadInput`."""
    return kit if kit.kind == "admin" else replace(kit, work=read_settings(kit).workspace)


class _Wrong(Exception):
    """A value that does not fit; says what was wanted."""


def read_settings(kit: Kit) -> Settings:
    """Return the settings of a server or a site; what its node.yaml does not say is the default.

    Raises `BadInput` for an unknown key, a key of the other kind of node, or a value that does not fit.
    """
    file = kit.local / "node.yaml"
    document = yamls.load_file(file) if file.exists() else yamls.Document(str(file), None, {})
    chosen: dict[str, Any] = {}
    for key, value in document.mapping().items():
        where = document.where((key,))
        if key not in _KEYS:
            raise yamls.unknown_key(key, [name for name, it in _KEYS.items() if kit.kind in it[0]], where=where)
        kinds, read = _KEYS[key]
        if kit.kind not in kinds:
            raise BadInput(f'"{key}" is a setting of a {kinds[0]}; this is a {kit.kind}', fix="remove it", where=where)
        if value is None:
            continue
        try:
            chosen[key] = read(value)
        except _Wrong as wrong:
            raise BadInput(f'"{key}" is {yamls.seen(value)}; wanted {wrong}', where=where) from None
        except BadInput as wrong:
            raise BadInput(f'"{key}": {wrong.what}', why=wrong.why, fix=wrong.fix, where=where) from None
    return _complete(kit, document, chosen)


def _complete(kit: Kit, document: yamls.Document, chosen: dict[str, Any]) -> Settings:
    """Fill in what depends on the kit's folder, on the machine and on other settings."""
    pods = chosen.pop("pods", {})
    if chosen.get("launcher") == "kubernetes":
        from convoy.spec.pods import read_pods

        chosen["pods"] = read_pods(document, pods)
    elif pods:
        raise BadInput(
            '"pods" has no effect without `launcher: kubernetes`',
            why="`launcher` is processes",
            fix="add `launcher: kubernetes`, or remove `pods`",
            where=document.where(("pods",)),
        )
    workspace = chosen.pop("workspace", "") or "work"
    chosen["workspace"] = _located(kit.root, workspace, document.where(("workspace",)))
    chosen["data"] = {
        name: place if "://" in place else str(_located(kit.local, place, document.where(("data", name))))
        for name, place in chosen.get("data", {}).items()
    }
    if "isolation" in chosen:
        chosen["isolation"] = _granted(kit, document, chosen["isolation"])
    if track := chosen.pop("track", None):
        chosen["track"] = _tracked(kit, document, track)
    if kit.kind == "site":
        chosen.setdefault("cpu", hardware.cores())
        chosen.setdefault("memory", hardware.memory())
        chosen.setdefault("gpu", hardware.gpus())
    return Settings(**chosen)


def _granted(kit: Kit, document: yamls.Document, given: Mapping[str, Any]) -> Grants:
    """Return what `isolation` grants, its paths made absolute. Raises `BadInput`."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        where = document.where(("isolation", key))
        if key not in _GRANTS:
            raise yamls.unknown_key(key, list(_GRANTS), where=where)
        wanted, fits = _GRANTS[key]
        if not fits(value):
            raise BadInput(f'"{key}" is {yamls.seen(value)}; wanted {wanted}', where=where)
        match value:
            case str():
                found[key] = str(_located(kit.local, value, where))
            case list():
                found[key] = tuple(str(_located(kit.local, place, where)) for place in value)
            case _:
                found[key] = value
    return Grants(**found)


def _tracked(kit: Kit, document: yamls.Document, given: Mapping[str, Any]) -> Tracked:
    """Return what `track` says. Raises `BadInput`."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        where = document.where(("track", key))
        if key not in _TRACKED:
            raise yamls.unknown_key(key, list(_TRACKED), where=where)
        try:
            found[key] = _words(value) if key == "env" else _text(value)
        except _Wrong as wrong:
            raise BadInput(f'"{key}" is {yamls.seen(value)}; wanted {wrong}', where=where) from None
    if not any(found.get(key) for key in _TRACKED[:-1]):
        where = document.where(("track",))
        raise BadInput('"track" names no tracker', fix=f"add {', '.join(_TRACKED[:-1])}, or remove it", where=where)
    if "tensorboard" in found:
        found["tensorboard"] = str(_located(kit.root, found["tensorboard"], document.where(("track", "tensorboard"))))
    return Tracked(**found)


def _paths(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(it, str) and it for it in value)


def _located(base: Path, place: str, where: str) -> Path:
    """Return a path, relative to a folder, as an absolute one; `~` is the home of whoever runs the node."""
    try:
        return (base / Path(place).expanduser()).absolute()
    except RuntimeError as problem:
        raise BadInput(
            f'"{place}" begins with a home folder that does not exist',
            why=str(problem),
            fix="write the absolute path",
            where=where,
        ) from problem


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("text")
    return value


def _port(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
        raise _Wrong("a port from 1 to 65535, or 0 for any free one")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _Wrong("a whole number from 1 up")
    return value


def _amount(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise _Wrong("a number from 0 up")
    return float(value)


def _life(value: Any) -> float:
    seconds = units.duration_s(value)
    if not 10 <= seconds <= 366 * 86400:
        raise _Wrong("a time from 10s to 366d")
    return seconds


def _words(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str | int | float) for item in value.values()):
        raise _Wrong("`name: value` lines")
    return {name: str(item).lower() if isinstance(item, bool) else str(item) for name, item in value.items()}


def _roles(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(role in names.ROLES for role in value):
        raise _Wrong(f"a list of roles out of {', '.join(names.ROLES)}")
    return tuple(value)


def _launcher(value: Any) -> str:
    if value not in LAUNCHERS:
        raise _Wrong(" or ".join(LAUNCHERS))
    return str(value)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong("a mapping, such as {name: value}")
    return value


def _traces(value: Any) -> str:
    address = value.get("endpoint") if isinstance(value, dict) and value.keys() == {"endpoint"} else None
    if not isinstance(address, str) or not address.startswith(("http://", "https://")):
        raise _Wrong("{endpoint: ADDRESS}, the address of a collector that speaks OTLP over HTTP")
    return address.rstrip("/").removesuffix("/v1/traces")


def _format(value: Any) -> LogFormat:
    if value not in ("text", "json"):
        raise _Wrong("text or json")
    return cast("LogFormat", value)


_GRANTS: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "read": ("a list of paths, such as [/opt/atlas]", _paths),
    "write": ("a list of paths, such as [/srv/shared]", _paths),
    "network": ("true or false", lambda value: isinstance(value, bool)),
    "cache": ("the path of a folder", lambda value: isinstance(value, str) and bool(value)),
}
_TRACKED: Final = ("tensorboard", "mlflow", "wandb", "env")
_NODES: Final = ("server", "site")
_KEYS: Final[dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]]] = {
    "workspace": (_NODES, _text),
    "health_host": (_NODES, _text),
    "health_port": (_NODES, _port),
    "listen_host": (("server",), _text),
    "max_jobs": (("server",), _count),
    "database": (("server",), _text),
    "results": (("server",), _text),
    "cpu": (("site",), _amount),
    "memory": (("site",), units.size_bytes),
    "gpu": (("site",), _amount),
    "data": (("site",), _words),
    "env": (_NODES, _words),
    "log_format": (_NODES, _format),
    "traces": (_NODES, _traces),
    "disk_reserve": (_NODES, units.size_bytes),
    "artifacts": (_NODES, units.size_bytes),
    "isolation": (_NODES, _mapping),
    "custom_workflows": (("server",), _roles),
    "track": (("server",), _mapping),
    "launcher": (_NODES, _launcher),
    "workers_port": (_NODES, _port),
    "pods": (_NODES, _mapping),
    "site_certificate_life": (("server",), _life),
    "admin_certificate_life": (("server",), _life),
}
