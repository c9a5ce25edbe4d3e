"""Which system calls a worker may make: a seccomp filter that denies what no training script needs.

It is a list of what is denied: doors of the kernel that are for administrators, or have been ways out of containers
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
_SAME: Final = (  # numbers that are the same on every architecture
    425, 426, 427,  # io_uring_setup, io_uring_enter, io_uring_register
    428, 429, 430, 431, 432, 433, 442,  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
    443,  # quotactl_fd
)  # fmt: skip
_DENIED: Final = {
    "x86_64": (
        103, 153, 155, 159, 161, 163, 164, 165, 166, 167,  # syslog vhangup pivot_root adjtimex chroot acct settimeofday mount umount2 swapon
        168, 169, 170, 171, 172, 173, 175, 176, 179, 180,  # swapoff reboot sethostname setdomainname iopl ioperm init_module delete_module quotactl nfsservctl
        212, 227, 246, 248, 249, 250, 298, 303, 304, 308,  # lookup_dcookie clock_settime kexec_load add_key request_key keyctl perf_event_open name_to_handle_at open_by_handle_at setns
        313, 320, 321, 323,  # finit_module kexec_file_load bpf userfaultfd
    ),
    "aarch64": (
        39, 40, 41, 51, 58, 60, 89, 104, 105, 106,  # umount2 mount pivot_root chroot vhangup quotactl acct kexec_load init_module delete_module
        112, 116, 142, 161, 162, 170, 171, 217, 218, 219,  # clock_settime syslog reboot sethostname setdomainname settimeofday adjtimex add_key request_key keyctl
        224, 225, 241, 264, 265, 268, 273, 280, 282, 294,  # swapon swapoff perf_event_open name_to_handle_at open_by_handle_at setns finit_module bpf userfaultfd kexec_file_load
    ),
}  # fmt: skip
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_UNSHARE: Final = {"x86_64": 272, "aarch64": 97}
_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
_CLONE3: Final = 435  # its flags lie in memory, which a filter cannot read; the C library falls back to clone

_LOAD, _EQUAL, _GREATER_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld abs, jeq, jge, jset, ret
_NUMBER, _ARCH, _FIRST = 0, 4, 16  # offsets in struct seccomp_data: the call, the architecture, the first argument
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


def program(*, inet: bool, machine: str = linux.MACHINE) -> bytes:
    """Return the filter as `linux.seccomp` takes it; without `inet` no socket of an Internet family can be made."""
    families = [socket.AF_UNIX, socket.AF_NETLINK, *((socket.AF_INET, socket.AF_INET6) if inet else ())]
    refused = errno.EAFNOSUPPORT if inet else errno.EACCES
    flags = _when(_ANY_BIT, linux.NAMESPACES, errno.EPERM)
    lines = [_line(_LOAD, _ARCH), _line(_EQUAL, _ARCHITECTURE[machine], 1, 0), _fail(errno.EPERM), _line(_LOAD, _NUMBER)]
    if machine == "x86_64":
        lines += _when(_GREATER_EQUAL, _X32, errno.EPERM)
    for number in (*_SAME, *_DENIED[machine]):
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
