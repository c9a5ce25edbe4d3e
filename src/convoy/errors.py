"""The tree of exceptions; each has an exit code and a hint.

ConvoyError                 what failed, why, what to do next
├── BadInput          4     a file or an argument is wrong (with file and line where there is one)
├── Refused           1     a server or a site refused, or a job failed
│   ├── JobFailed     1     the job ended without its result
│   └── NotFound      1     it does not exist (or you may not see it)
├── NotAllowed        2     your identity or your rights do not suffice
├── Unreachable       2     nothing answers at that address
├── PatienceOut       3     no progress for longer than the patience given
├── StorageFull       1     the disk is full; work continues when there is space
├── RemoteFault       1     what another party sent is wrong: bytes, digests, protocol
└── Bug               5     an error in Convoy itself
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # the disk, the quota, the limit of a process

_FIXES: Final[Mapping[int, str]] = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "give it to this user (ls -l says whose it is), or be that user"),
    errno.EROFS: "use a folder that can be written",
    errno.ENOENT: "check the path; `convoy provision` makes kits, `convoy job new NAME` a job",
    errno.ENAMETOOLONG: "use a shorter name",
}


class ConvoyError(Exception):
    """The base of all errors: one sentence each for what failed, why, and what to do next."""

    exit_code: ClassVar[int] = 5

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        """Keep the three lines; `why` and `fix` may be empty where `what` already says it."""
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return "\n".join(line for line in (self.what, self.why, self.fix) if line)


class BadInput(ConvoyError):
    """A file or an argument is wrong; `where` names file:line:column where there is one."""

    exit_code = 4

    def __init__(self, what: str, *, why: str = "", fix: str = "", where: str = "") -> None:
        """Put `where` in front of the message."""
        super().__init__(f"{where}: {what}" if where else what, why=why, fix=fix)
        self.where = where


class Refused(ConvoyError):
    """A server or a site refused, or a job failed."""

    exit_code = 1


class JobFailed(Refused):
    """The job ended without its result."""


class NotFound(Refused):
    """It does not exist, or you may not see it."""


class NotAllowed(ConvoyError):
    """Your identity or your rights do not suffice."""

    exit_code = 2


class Unreachable(ConvoyError):
    """Nothing answers at that address."""

    exit_code = 2


class PatienceOut(ConvoyError):
    """No progress for longer than the patience given."""

    exit_code = 3


class StorageFull(ConvoyError):
    """The disk is full; work continues when there is space."""

    exit_code = 1


class RemoteFault(ConvoyError):
    """What another party sent is wrong: bytes, digests, protocol."""

    exit_code = 1


class Bug(ConvoyError):
    """An error in Convoy itself: report it."""

    exit_code = 5


def of_files(problem: BaseException) -> ConvoyError | None:
    """Return the error for a person's file or folder that the system would not open, make or change; else None."""
    if not isinstance(problem, OSError):
        return None
    name = problem.filename if problem.filename is not None else problem.filename2
    why = problem.strerror or str(problem)
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no room for {name or 'a file'}", why=why, fix="make room, and try again")
    if name is None or isinstance(name, int):  # no file of anybody's: a connection, a process
        return None
    shown = os.fsdecode(name)
    return BadInput(f"{shown} cannot be used", why=why, fix=_FIXES.get(problem.errno or 0, "check the path"))


def shown(problem: ConvoyError | OSError) -> ConvoyError:
    """Return the error that a person is shown for one of ours, or for one of the system."""
    if isinstance(problem, ConvoyError):
        return problem
    return of_files(problem) or Refused("the system refused something", why=problem.strerror or str(problem))


def not_installed(problem: ImportError, package: str, *, extra: str) -> BadInput:
    """Return the error for an optional package that cannot be imported, with the extra of Convoy that brings it."""
    return BadInput(
        f"{package} is needed here and cannot be imported",
        why=str(problem),
        fix=f"run `pip install 'convoy-fl[{extra}]'`, or `pip install {package}`",
    )


def line(problem: Exception) -> str:
    """Return what an error says, why and what to do, as one line."""
    return ": ".join(str(problem).splitlines())


def by_reason(reasons: Iterable[tuple[str, str]], between: str = ": ") -> list[str]:
    """Return what to say of sites and the reason of each: `a, b and c: away`, the sites of one reason together."""
    sites: dict[str, list[str]] = {}
    for site, reason in reasons:
        sites.setdefault(reason, []).append(site)
    return [f"{_and(named)}{between}{reason}" for reason, named in sites.items()]


def some(names: Sequence[str], most: int) -> str:
    """Return names for one line; of more than `most`, the first ones and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _and(names: list[str]) -> str:
    """Return names as words; of more than ten, the first nine and how many more there are."""
    *first, last = names if len(names) <= 10 else [*names[:9], f"{len(names) - 9} more"]
    return f"{', '.join(first)} and {last}" if first else last
