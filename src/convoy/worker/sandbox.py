"""What a worker may see and do: the paths that it reads and writes, its scratch folder, whether it has a network."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

END: Final = signal.SIGUSR1  # a node's signal to a worker's keeper: end the worker and all that it has started
VARIABLE: Final = "CONVOY_SANDBOX"  # in a worker's environment: its own sandbox, as JSON

_SYSTEM: Final = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/run/opengl-driver",
    "/sys",
)
_ETC: Final = (  # the parts of /etc that programs need to run, without files that only root may read
    "alternatives", "ca-certificates", "fonts", "gai.conf", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "nvidia", "OpenCL", "passwd", "pki", "protocols",
    "resolv.conf", "services", "ssl", "timezone", "vulkan",
)  # fmt: skip
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "nvidia*", "dri", "kfd")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What one worker can see and do. All paths are absolute, and the same inside as outside."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    devices: tuple[str, ...]
    scratch: str  # in `write`; also its home, and /tmp where it has a file system of its own
    network: bool  # connections to others; its own loopback exists wherever there are network namespaces
    namespaces: bool  # what the node found to be possible here
    landlock: int  # version, 0: not here
    seccomp: bool

    def to_json(self) -> str:
        """Return it for the environment of the worker's process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the sandbox that `to_json` wrote."""
        said: Any = {key: tuple(it) if isinstance(it, list) else it for key, it in json.loads(text).items()}
        return cls(**said)

    def allows(self, path: str, *, write: bool = False) -> bool:
        """Whether a path lies in what may be read, or written."""
        temporary = ("/dev/shm", "/tmp", "/var/tmp") if self.namespaces else ("/dev/shm",)  # noqa: S108 - its own
        known = (*self.write, *self.devices, *temporary, *(() if write else (*self.read, "/proc")))
        return any(_is_within(path, place) for place in known)


def system(hidden: Sequence[str]) -> tuple[str, ...]:
    """Return what every worker reads of this machine: interpreter, libraries, our own package; never what is hidden."""
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(__file__).parents[1])}
    python |= {
        entry for entry in sys.path[1:] if entry and exists(entry)
    }  # the first is the folder where the process was started
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    wanted = [*_SYSTEM, *(f"/etc/{name}" for name in _ETC), *sorted(python), *(it for it in libraries if it)]
    found = dict.fromkeys(part for path in wanted for part in visible(path, hidden))
    return tuple(path for path in found if Path(path).is_symlink() or not _is_below(path, found))


def devices() -> tuple[str, ...]:
    """Return the devices that every worker has: /dev/null and similar ones, and GPUs."""
    return tuple(str(path) for name in _DEVICES for path in sorted(Path("/dev").glob(name)))


def visible(path: str, hidden: Sequence[str]) -> Iterator[str]:
    """Yield a path and where it leads to; instead of a path that contains something hidden, what lies beside that."""
    if not exists(path) or any(_is_within(path, secret) for secret in hidden):
        return
    real = os.path.realpath(path)
    if real != path:
        yield from visible(real, hidden)
    if not any(_is_within(secret, path) for secret in hidden):
        yield path
    elif real == path:
        for part in sorted(Path(path).iterdir()):
            yield from visible(str(part), hidden)


def exists(path: str) -> bool:
    """Whether a path is there for this user: one in a folder that the user may not enter is not."""
    try:
        os.stat(path)  # noqa: PTH116 - `Path.exists` raises for that
    except OSError:
        return False
    return True


def both(paths: Iterable[str]) -> tuple[str, ...]:
    """Return paths that exist, and where they lead to."""
    return tuple(dict.fromkeys(it for path in paths if path and exists(path) for it in (path, os.path.realpath(path))))


def _is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether a path lies in one of the folders, itself left out."""
    return any(folder != path and _is_within(path, folder) for folder in folders)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
