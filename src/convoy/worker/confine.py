"""A worker's process confined: namespaces, a root of its own, Landlock, seccomp, no capabilities.

Nothing here needs root. What the machine cannot do is left out, and the node has reported it before (`isolation.py`).
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

from convoy.worker import linux, syscalls
from convoy.worker.sandbox import Sandbox, exists

MAX_PROCESSES: Final = 8192  # of one worker and everything it starts: torchrun with data loaders takes hundreds
OOM_SCORE: Final = 500  # of 1000: when memory runs out, a job ends before its node

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8  # Landlock's rights, bit by bit
_CHANGES: Final = 0x1FF0 & ~(1 << 6) & ~(1 << 11)  # make and remove entries, but no device files
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15  # since versions 2, 3, 5
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_SCOPES: Final = 0b11  # no abstract sockets and signals to outside; since version 6


def split_off(*, network: bool) -> None:
    """Give the next child namespaces of its own: users, mounts, processes, IPC, and network if none is granted."""
    user, group = os.geteuid(), os.getegid()
    flags = linux.NEWUSER | linux.NEWNS | linux.NEWPID | linux.NEWIPC
    linux.unshare(flags if network else flags | linux.NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def furnish(sandbox: Sandbox) -> None:
    """Give this process, the first of its namespaces, a root folder with only the paths of the sandbox."""
    linux.keep_mounts_private()
    places = _places(sandbox)
    trees = {}
    for place, (source, attributes) in places.items():
        trees[place] = linux.copy_tree(source)
        linux.set_attributes(trees[place], attributes)
    root = sandbox.scratch
    linux.mount("tmpfs", root, "mode=755")
    for place, (source, _) in sorted(places.items(), key=lambda item: item[0].count("/")):
        target = Path(root + place)
        if not os.path.lexists(target):
            _make_point(target, folder=Path(source).is_dir())
        linux.attach(trees[place], str(target))
        os.close(trees[place])
    _links(root)
    for name in ("proc", "dev/shm"):
        Path(root, name).mkdir(parents=True, exist_ok=True)
    linux.mount("proc", f"{root}/proc", flags=linux.NOSUID | linux.NODEV | linux.NOEXEC)
    linux.make_read_only(f"{root}/proc")
    linux.mount("tmpfs", f"{root}/dev/shm", "mode=1777")  # noqa: S108 - its own
    linux.change_root(root)
    linux.make_read_only("/")
    if not sandbox.network:
        linux.loopback_up()


def _places(sandbox: Sandbox) -> dict[str, tuple[str, int]]:
    """Return place -> (source, attributes): what is mounted where in the new root. The last entry counts."""
    closed = linux.NOSUID | linux.NODEV
    readable = {place: (os.path.realpath(place), closed | linux.RDONLY) for place in sandbox.read}
    return (
        {place: it for place, it in readable.items() if not _is_root_link(place)}
        | dict.fromkeys(("/tmp", "/var/tmp"), (sandbox.scratch, closed))  # noqa: S108 - its own
        | {place: (place, linux.NOSUID | linux.NOEXEC) for place in sandbox.devices}
        | {place: (os.path.realpath(place), closed) for place in sandbox.write}
    )


def _is_root_link(place: str) -> bool:
    """Whether this is a link beside the root's folders, such as /bin to /usr/bin: it stays a link."""
    return place.count("/") == 1 and Path(place).is_symlink()


def _make_point(target: Path, *, folder: bool) -> None:
    """Make the folder or the empty file that something is to be mounted on."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        target.mkdir(exist_ok=True)
    else:
        target.touch()


def _links(root: str) -> None:
    for link in Path("/").iterdir():
        if link.is_symlink() and not os.path.lexists(f"{root}{link}"):
            Path(f"{root}{link}").symlink_to(link.readlink())
    dev = Path(root, "dev")
    dev.mkdir(exist_ok=True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (dev / name).symlink_to(f"/proc/self/fd/{number}")
    (dev / "fd").symlink_to("/proc/self/fd")


def restrict(sandbox: Sandbox) -> None:
    """Remove permanently what the sandbox does not grant: files, capabilities, system calls."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold the model and the data
    if sandbox.namespaces:  # in a user namespace, this counts only its own processes
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        most = MAX_PROCESSES if hard == resource.RLIM_INFINITY else min(hard, MAX_PROCESSES)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    if not linux.known:
        return
    linux.forbid_new_privileges()
    linux.drop_capabilities()
    if sandbox.landlock:
        linux.landlock(*landlock_rules(sandbox))
    if sandbox.seccomp:
        linux.seccomp(syscalls.program(inet=sandbox.network or sandbox.namespaces))


def landlock_rules(sandbox: Sandbox) -> tuple[int, int, list[tuple[str, int]]]:
    """Return the handled rights, the scopes and the rules of (path, rights) for this kernel's Landlock."""
    version = sandbox.landlock
    extra = (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0) | (_IOCTL if version >= 5 else 0)
    read = _EXECUTE | _READ_FILE | _READ_DIR
    write = read | _WRITE_FILE | _CHANGES | extra
    temporary = ("/dev/shm", *(("/tmp", "/var/tmp") if sandbox.namespaces else ()))  # noqa: S108 - its own
    everything = ("/",) if sandbox.namespaces else ()  # the root folder contains only what may be read
    wanted = [(path, read) for path in (*everything, *sandbox.read, "/proc")]
    wanted += [(path, write) for path in (*sandbox.write, *temporary)]
    wanted += [(path, write & (_OF_FILES | _READ_DIR)) for path in sandbox.devices]
    rules = [(path, rights if Path(path).is_dir() else rights & _OF_FILES) for path, rights in wanted if exists(path)]
    handled = write | (1 << 6) | (1 << 11)
    return handled, _SCOPES if version >= 6 else 0, rules
