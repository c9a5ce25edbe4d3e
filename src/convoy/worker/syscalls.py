"""Which system calls a worker may make: a seccomp filter that denies what no training script needs.

It lists what is denied: calls that are for administrators, or have been used to escape from containers
(new namespaces, mounts, keys, BPF, io_uring, kernel modules, kinds of sockets that are not the network's).
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from convoy.worker import linux

_ARCHITECTURE: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32: Final = 0x40000000  # the second set of numbers on x86_64
_DENIED: Final[dict[str, tuple[int, int | None]]] = {  # their numbers on x86_64 and on aarch64
    "acct": (163, 89), "add_key": (248, 217), "adjtimex": (159, 171), "bpf": (321, 280), "chroot": (161, 51),
    "clock_settime": (227, 112), "delete_module": (176, 106), "finit_module": (313, 273),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fsopen": (430, 430), "fspick": (433, 433),
    "init_module": (175, 105), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425), "ioperm": (173, None), "iopl": (172, None), "kexec_file_load": (320, 294),
    "kexec_load": (246, 104), "keyctl": (250, 219), "lookup_dcookie": (212, None), "mount": (165, 40),
    "mount_setattr": (442, 442), "move_mount": (429, 429), "name_to_handle_at": (303, 264),
    "nfsservctl": (180, None), "open_by_handle_at": (304, 265), "open_tree": (428, 428),
    "perf_event_open": (298, 241), "pivot_root": (155, 41), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "reboot": (169, 142), "request_key": (249, 218), "setdomainname": (171, 162), "sethostname": (170, 161),
    "setns": (308, 268), "settimeofday": (164, 170), "swapoff": (168, 225), "swapon": (167, 224),
    "syslog": (103, 116), "umount2": (166, 39), "userfaultfd": (323, 282), "vhangup": (153, 58),
}  # fmt: skip
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_UNSHARE: Final = {"x86_64": 272, "aarch64": 97}
_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
_CLONE3: Final = 435  # its flags are in memory, which a filter cannot read; the C library falls back to clone

_LOAD, _EQUAL, _GREATER_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld abs, jeq, jge, jset, ret
_NUMBER, _ARCH, _FIRST = 0, 4, 16  # offsets in struct seccomp_data: the call, the architecture, the first argument
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


def program(*, inet: bool, machine: str = linux.MACHINE) -> bytes:
    """Return the filter as `linux.seccomp` takes it; without `inet` no socket of an Internet family can be made."""
    families = [socket.AF_UNIX, socket.AF_NETLINK, *((socket.AF_INET, socket.AF_INET6) if inet else ())]
    refused = errno.EAFNOSUPPORT if inet else errno.EACCES
    flags = _when(_ANY_BIT, linux.NAMESPACES, errno.EPERM)
    lines = [
        _line(_LOAD, _ARCH),
        _line(_EQUAL, _ARCHITECTURE[machine], 1, 0),
        _fail(errno.EPERM),
        _line(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        lines += _when(_GREATER_EQUAL, _X32, errno.EPERM)
    for numbers in _DENIED.values():
        if (number := numbers[machine == "aarch64"]) is not None:
            lines += _when(_EQUAL, number, errno.EPERM)
    lines += _when(_EQUAL, _CLONE3, errno.ENOSYS)
    for number in (_CLONE[machine], _UNSHARE[machine]):
        lines += _for(number, [_line(_LOAD, _FIRST), *flags, _line(_RETURN, _ALLOW)])
    known = [step for family in families for step in (_line(_EQUAL, family, 0, 1), _line(_RETURN, _ALLOW))]
    lines += _for(_SOCKET[machine], [_line(_LOAD, _FIRST), *known, _fail(refused)])
    return b"".join([*lines, _line(_RETURN, _ALLOW)])


def _line(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _fail(number: int) -> bytes:
    return _line(_RETURN, _FAIL | number)


def _when(test: int, value: int, number: int) -> list[bytes]:
    """Fail with an error number where the test holds."""
    return [_line(test, value, 0, 1), _fail(number)]


def _for(call: int, body: list[bytes]) -> list[bytes]:
    """Run a body, which returns, for one system call."""
    return [_line(_EQUAL, call, 0, len(body)), *body]
