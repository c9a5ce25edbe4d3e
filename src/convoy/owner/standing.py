"""How a site is, as its own files and its health port say: process, connection, certificate, data, problems."""

from __future__ import annotations

import http.client
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from convoy.errors import ConvoyError
from convoy.node.alive import command_of
from convoy.spec import tables
from convoy.spec.kit import Kit
from convoy.spec.policy import Policy
from convoy.spec.settings import Settings
from convoy.spec.tables import TableRules
from convoy.trust import authority

ANSWER_S: Final = 1.0  # for the health port of this machine
MAX_ANSWER: Final = 2000  # bytes of the answer of the health port
MAX_TAIL: Final = 256 << 10  # bytes at the end of the site's log in which problems are looked for
MAX_PROBLEMS: Final = 50  # warnings and errors of the site's log, the newest
MAX_FILES: Final = 10_000  # of a folder of data that are counted
LOG: Final = "node.log"
LEVELS: Final = ("warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Certificate:
    """The site's certificate; times are seconds since the epoch. `renews_at`: when the server asks for a new one."""

    begins: float
    ends: float

    @property
    def renews_at(self) -> float:
        """The middle of its life, at which a connected site gets a new one."""
        return (self.begins + self.ends) / 2


@dataclass(frozen=True, slots=True)
class Datum:
    """One line of `data` in node.yaml: what is at its path, never what is in it. `size` is bytes."""

    name: str
    path: str
    kind: str  # "file", "folder", "address", "other", or "missing"
    readable: bool = False  # for the person who asks
    size: int = 0
    files: int = 0
    more: bool = False  # there are more files than were counted
    rules: TableRules | None = None
    place: str = ""


def connection(settings: Settings, pid: int) -> str:
    """Return why the site is not connected to its server, "" if it is; `pid` is of its agent, 0 if none runs."""
    if not pid:
        return "the site's agent is not running"
    asked = http.client.HTTPConnection(_host(settings), _port(settings, pid), timeout=ANSWER_S)
    try:
        asked.request("GET", "/readyz")
        answer = asked.getresponse()
        text = answer.read(MAX_ANSWER).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as problem:
        return f"the site's health port does not answer: {problem}"
    finally:
        asked.close()
    return "" if answer.status == 200 else text or f"its health port says {answer.status}"


def _host(settings: Settings) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.health_host, settings.health_host)  # noqa: S104


def _port(settings: Settings, pid: int) -> int:
    """Return the health port: the one that the agent was started with, or that of the settings."""
    last = command_of(pid).rpartition(" ")[2]
    return int(last) if last.isdecimal() and len(last) <= 5 else settings.health_port


def certificate(kit: Kit) -> Certificate | None:
    """Return the times of the site's certificate, None before it has one. The key is not read into anything."""
    try:
        found = authority.read_certificate(kit.certificate, name="the site's certificate")
    except (OSError, ConvoyError):
        return None
    return Certificate(found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp())


def data(settings: Settings, policy: Policy | None) -> list[Datum]:
    """Return what `data` in node.yaml names, with the rules of the policy for each table."""
    return [_datum(name, path, policy) for name, path in settings.data.items()]


def _datum(name: str, path: str, policy: Policy | None) -> Datum:
    listed = () if policy is None else policy.tables
    rules = None if policy is None else tables.rules_of(listed, name)
    place = ""
    if policy is not None:
        from fnmatch import fnmatchcase

        pattern = next((it for it, _ in listed if fnmatchcase(name, it)), "")
        place = policy.places.get(f"tables.{pattern}", "") if pattern else ""
    kind, readable, size, files, more = _looked_at(path)
    return Datum(name, path, kind, readable, size, files, more, rules, place)


def _looked_at(path: str) -> tuple[str, bool, int, int, bool]:
    if "://" in path:
        return "address", False, 0, 0, False
    try:
        found = Path(path).stat()
    except OSError:
        return "missing", False, 0, 0, False
    readable = os.access(path, os.R_OK)
    if stat.S_ISREG(found.st_mode):
        return "file", readable, found.st_size, 1, False
    if not stat.S_ISDIR(found.st_mode):
        return "other", readable, 0, 0, False
    seen = list(islice(_sizes(path), MAX_FILES + 1))
    return (
        "folder",
        readable and os.access(path, os.X_OK),
        sum(seen[:MAX_FILES]),
        min(len(seen), MAX_FILES),
        len(seen) > MAX_FILES,
    )


def _sizes(folder: str) -> Iterator[int]:
    """Yield the size of each regular file in a folder and below; links are not followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = Path(place, name).lstat()
            except OSError:
                continue
            yield found.st_size if stat.S_ISREG(found.st_mode) else 0


def logs(kit: Kit) -> list[Path]:
    """Return the files that the site's agent may write its log into: `convoy up` does so; a service has its own."""
    return [path for path in (kit.root / "work" / LOG, kit.work / LOG, kit.root / LOG) if path.is_file()]


def problems(kit: Kit) -> list[str]:
    """Return the newest warnings and errors of the site's own log, newest first."""
    found: dict[Path, list[str]] = {}
    for path in logs(kit)[:1]:
        try:
            with path.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - MAX_TAIL, 0))
                lines = file.read(MAX_TAIL).decode(errors="replace").splitlines()
        except OSError:
            continue
        found[path] = [line[:1000] for line in lines if _is_problem(line)]
    return list(reversed([line for lines in found.values() for line in lines]))[:MAX_PROBLEMS]


def _is_problem(line: str) -> bool:
    return any(f"[{level}" in line[:60] or f'"level": "{level}"' in line for level in LEVELS)
