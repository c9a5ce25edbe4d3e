"""The system calls of Linux that isolation needs and Python has no functions for.

Each function raises `OSError` with the call's name. On other machines than x86_64 and aarch64 `known` is False.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

NEWNS: Final = 0x00020000
NEWIPC: Final = 0x08000000
NEWUSER: Final = 0x10000000
NEWPID: Final = 0x20000000
NEWNET: Final = 0x40000000
NAMESPACES: Final = 0x7E020000  # every flag that makes a namespace, uts and cgroup included

RDONLY: Final = 0x1  # attributes of a mount, as mount_setattr(2) takes them
NOSUID: Final = 0x2
NODEV: Final = 0x4
NOEXEC: Final = 0x8

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_CLONE_TREE, _CLOEXEC, _FROM_DESCRIPTOR = 0x1, 0o2000000, 0x4
_MNT_DETACH, _MS_REC, _MS_PRIVATE = 0x2, 0x4000, 0x40000
_PDEATHSIG, _SET_NAME, _CAPBSET_DROP, _SECUREBITS, _SUBREAPER, _GET_SUBREAPER, _NO_NEW_PRIVS, _SECCOMP = (
    1,
    15,
    24,
    28,
    36,
    37,
    38,
    22,
)
_NOROOT: Final = 0b1111  # user 0 gets no capabilities, at a start or a change of user; locked
_LAST_CAPABILITY: Final = 63
_IFF_UP, _SIOCSIFFLAGS = 0x1, 0x8914
_CAPABILITY_VERSION: Final = 0x20080522

MACHINE: Final = platform.machine()
known: Final = sys.platform == "linux" and MACHINE in _PIVOT_ROOT


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _demand(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _call(number: int, *arguments: Any, what: str) -> int:
    """Make a system call by its number."""
    return _demand(_libc().syscall(ctypes.c_long(number), *arguments), what)


def die_with_parent(sign: int) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    _demand(_libc().prctl(_PDEATHSIG, sign, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def adopt_orphans(*, adopt: bool = True) -> None:
    """Become the parent of descendants whose own parent ends (sub-reaper), or do so no more."""
    _demand(_libc().prctl(_SUBREAPER, int(adopt), 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


class Adopting:
    """Adopts orphans while there is such a context. The kernel has one flag for a process, which this count is for."""

    _open: ClassVar = 0
    _before: ClassVar = False

    def __enter__(self) -> None:
        if Adopting._open == 0:
            before = ctypes.c_int()
            _demand(_libc().prctl(_GET_SUBREAPER, ctypes.byref(before), 0, 0, 0), "prctl(PR_GET_CHILD_SUBREAPER)")
            Adopting._before = bool(before.value)
            adopt_orphans()
        Adopting._open += 1

    def __exit__(self, *_: object) -> None:
        Adopting._open -= 1
        if Adopting._open == 0:
            adopt_orphans(adopt=Adopting._before)


def set_name(name: str) -> None:
    """Name this process for `ps` and `top`; the kernel keeps 15 bytes."""
    _demand(_libc().prctl(_SET_NAME, name.encode(), 0, 0, 0), "prctl(PR_SET_NAME)")


@dataclass(frozen=True, slots=True)
class Process:
    """A process: its parent, and the CPU ticks that it and its ended children have used."""

    parent: int
    ticks: int


def processes() -> dict[int, Process]:
    """Return every process that this one can see, by number; none where there is no /proc."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended meanwhile
            continue
        found[int(stat.parent.name)] = Process(int(fields[1]), sum(map(int, fields[11:15])))
    return found


def family(roots: Iterable[int], processes: Mapping[int, Process]) -> set[int]:
    """Return the roots and all that descends from them."""
    found = set(roots)
    while more := {pid for pid, process in processes.items() if process.parent in found} - found:
        found |= more
    return found


# ---- namespaces and mounts ---------------------------------------------------------------------------------------
def unshare(flags: int) -> None:
    """Give this process namespaces of its own; a PID namespace begins with its next child."""
    _demand(_libc().unshare(flags), "unshare")


def keep_mounts_private() -> None:
    """Keep later mounts of this namespace and of its parent apart."""
    _demand(_libc().mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "mount(/, private)")


def mount(kind: str, target: str, options: str = "", *, flags: int = NOSUID | NODEV) -> None:
    """Mount a new file system of a kind such as tmpfs or proc."""
    name = kind.encode()
    _demand(_libc().mount(name, os.fsencode(target), name, flags, options.encode() or None), f"mount({target}, {kind})")


def copy_tree(path: str) -> int:
    """Return a descriptor of a copy of the mounts at and below a path, attached nowhere."""
    flags = _CLONE_TREE | _CLOEXEC | _AT_RECURSIVE
    return _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags, what=f"open_tree({path})")


def set_attributes(tree: int, attributes: int) -> None:
    """Add attributes such as `RDONLY` to the mounts of a copied tree, all of them."""
    given = ctypes.create_string_buffer(struct.pack("=QQQQ", attributes, 0, 0, 0))
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    _call(_MOUNT_SETATTR, tree, b"", flags, given, ctypes.c_size_t(32), what="mount_setattr")


def make_read_only(path: str) -> None:
    """Make the mount at a path read-only, without those below it."""
    given = ctypes.create_string_buffer(struct.pack("=QQQQ", RDONLY, 0, 0, 0))
    _call(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), 0, given, ctypes.c_size_t(32), what=f"mount_setattr({path})")


def attach(tree: int, path: str) -> None:
    """Mount a copied tree at a path."""
    _call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(path), _FROM_DESCRIPTOR, what=f"move_mount({path})")


def change_root(path: str) -> None:
    """Make a mounted folder the root, and unmount the old one."""
    os.chdir(path)
    _call(_PIVOT_ROOT[MACHINE], b".", b".", what="pivot_root")
    _demand(_libc().umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")


def loopback_up() -> None:
    """Bring up the loopback interface of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


# ---- fewer rights ------------------------------------------------------------------------------------------------
def drop_capabilities() -> None:
    """Give up every capability permanently, in this process and in those that it starts."""
    libc = _libc()
    libc.prctl(_SECUREBITS, _NOROOT, 0, 0, 0)  # may fail without the right to do it: then there is nothing to lock
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _call(_CAPSET[MACHINE], ctypes.c_char_p(header), ctypes.c_char_p(bytes(24)), what="capset")


def forbid_new_privileges() -> None:
    """Prevent that setuid programs gain rights; Landlock and seccomp require this."""
    _demand(_libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def landlock_version() -> int:
    """Return the version of the kernel's Landlock interface, 0 where there is none."""
    try:
        return _call(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1, what="landlock_create_ruleset")
    except OSError as problem:
        if problem.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def landlock(handled: int, scoped: int, rules: Iterable[tuple[str, int]]) -> None:
    """Restrict this process to rules of (path, rights); `handled` rights are denied everywhere else, scopes always."""
    given = struct.pack("=QQQ", handled, 0, scoped)[: 24 if scoped else 8]
    size = ctypes.c_size_t(len(given))
    ruleset = _call(_LANDLOCK_CREATE, ctypes.c_char_p(given), size, 0, what="landlock_create_ruleset")
    try:
        for path, rights in rules:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place))
                _call(_LANDLOCK_ADD, ruleset, 1, rule, 0, what=f"landlock_add_rule({path})")
            finally:
                os.close(place)
        _call(_LANDLOCK_RESTRICT, ruleset, 0, what="landlock_restrict_self")
    finally:
        os.close(ruleset)


def seccomp(program: bytes) -> None:
    """Filter this process's system calls by a BPF program: packed `sock_filter` instructions."""
    code = ctypes.create_string_buffer(program, len(program))
    given = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    _demand(_libc().prctl(_SECCOMP, 2, ctypes.c_char_p(given), 0, 0), "prctl(PR_SET_SECCOMP)")
