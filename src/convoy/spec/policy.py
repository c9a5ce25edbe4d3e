"""A site's policy, from local/policy.yaml: who may run code here, what a job may ask for, what may leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from convoy.errors import BadInput
from convoy.spec import filters, names, tables, units, yamls
from convoy.spec.filters import Filter
from convoy.spec.tables import TableRules

ISOLATED: Final = ("files", "processes", "network")  # what a job may be isolated from
WEIGHTS: Final = ("exact", "rounded", "fixed")
ARRAYS: Final = 16 << 20  # bytes of an answer that is not shaped like the model, unless the policy says otherwise
_SIZES: Final = ("memory", "state")  # limits that are bytes
_MOST: Final = {"per_hour": 1_000_000_000, "digits": 17}  # 17 digits are all that a float has
SETTLES_S: Final = 2.0  # after which a further change of a file has another time, on any file system
OWN: Final = "own"  # in place of an organisation's name: the site's own


@dataclass(frozen=True, slots=True)
class Rule:
    """Somebody who may run code here: whoever fits each part that is not empty; a rule has one at least."""

    person: str = ""
    org: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one job may ask for here: cores, bytes, devices; `state`: bytes that it may keep between tasks."""

    cpu: float = math.inf
    memory: float = math.inf
    gpu: float = math.inf
    state: float = math.inf


@dataclass(frozen=True, slots=True)
class Live:
    """Which live metrics of a job may leave: keys that match a shell pattern, so many values an hour, rounded."""

    keys: tuple[str, ...] = ("*",)
    per_hour: int = 100_000  # values of one job in each hour of the clock: 28 a second
    digits: int = 6  # significant digits

    def allows(self, key: str) -> bool:
        """Whether the values of a key may leave."""
        return any(fnmatchcase(key, pattern) for pattern in self.keys)

    def rounded(self, value: float) -> float:
        """Return the value that leaves in place of this one."""
        return float(f"{value:.{self.digits}g}")


@dataclass(frozen=True, slots=True)
class Leave:
    """What may leave this site beside the updates."""

    logs: bool = True  # what a job's code prints, its tracebacks and its errors' words
    metrics: bool = True  # of answers; without them live ones stay, too
    live: Live | None = Live()  # metrics while a task runs; None: they stay
    artifacts: int = 0  # bytes of one job's artifacts/ that go to the server
    weight: str = "exact"  # or "rounded" to one significant digit, or "fixed" to 1
    values: bool = True  # what a job's code says beside its arrays: text, JSON
    resources: bool = True  # what answers took: seconds, processor, memory, energy; without metrics they stay, too
    arrays: int = ARRAYS  # bytes of arrays that are not shaped like the model, such as the counts of a histogram

    @property
    def resources_leave(self) -> bool:
        """Whether it may be told what answers took."""
        return self.resources and self.metrics

    def weighed(self, weight: float) -> float:
        """Return the weight that leaves in place of this one; 0 stays 0, for such an answer has no say."""
        if self.weight == "fixed" and weight > 0:
            return 1.0
        return float(f"{weight:.0e}") if self.weight == "rounded" else weight


@dataclass(frozen=True, slots=True)
class Policy:
    """What a site allows. `places` says where each key stands, such as `limits.cpu` at `policy.yaml:9`."""

    run: tuple[Rule, ...] = (Rule(org=OWN), Rule(role="project_admin"))
    workflows: tuple[str, ...] | None = None  # shell patterns; None: any
    images: tuple[str, ...] = ()  # shell patterns of images that a job may name; none: it gets the site's own
    limits: Limits = Limits()
    leave: Leave = Leave()
    filters: tuple[Filter, ...] = ()  # in the order in which they apply
    tables: tuple[tuple[str, TableRules], ...] = ()  # by shell patterns of names of data, in order
    isolation: tuple[str, ...] = ()  # what jobs must be isolated from here; none: what this machine can do
    places: Mapping[str, str] = field(default_factory=dict)


def read_policy(path: Path, name: str = "") -> Policy:
    """Return the policy in a file; messages call it by a name, else by its path.

    Raises `BadInput`; for a missing file too, since it may have held filters.
    """
    if not path.is_file():
        raise BadInput(
            f"{name or path} does not exist",
            why="without its policy, a site would send what the policy keeps at the site",
            fix="restore the file; an empty file means the defaults, which `convoy provision` writes as comments",
        )
    document = yamls.load_file(path, name)
    data = document.mapping()
    for key in data:
        if key not in KEYS:
            raise yamls.unknown_key(key, KEYS, where=document.where((key,)))
    places = {".".join(map(str, place)): f"{path.name}:{line}" for place, (line, _) in document.places.items()}
    return Policy(**{key: KEYS[key](document, value) for key, value in data.items()}, places=places)


class PolicyFile:
    """A policy.yaml that is read anew only once it has changed: whoever asks gets what it says at that moment."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Read nothing yet."""
        self.path = path
        self._clock = clock
        self._read: tuple[tuple[int, ...], Policy] | None = None

    def now(self) -> Policy:
        """Return the policy. Raises `BadInput` as `read_policy` does, without the path: others read what it says."""
        try:
            status = self.path.stat()
        except OSError:
            return read_policy(self.path, self.path.name)  # which says what is wrong
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._read is None or self._read[0] != stamp:
            policy = read_policy(self.path, self.path.name)
            if self._clock() - max(status.st_mtime, status.st_ctime) < SETTLES_S:
                return policy  # one more change may come that leaves no other stamp
            self._read = stamp, policy
        return self._read[1]


def _rules(document: yamls.Document, listed: Any) -> tuple[Rule, ...]:
    """Return who may run code; an empty list lets nobody."""
    if not isinstance(listed, list):
        raise _wrong(document, ("run",), listed, "a list of rules; with [], nobody can run code without an approval")
    return tuple(_rule(document, ("run", index), item) for index, item in enumerate(listed))


def _rule(document: yamls.Document, path: tuple[str | int, ...], item: Any) -> Rule:
    """Return one rule, checked."""
    if not isinstance(item, dict) or not item:
        raise BadInput(
            f"{yamls.seen(item)} is not a rule",
            fix="write a rule that says who may run code, such as `- {org: own}` or `- {org: clinic-b, role: lead}`",
            where=document.where(path),
        )
    for key, value in item.items():
        if key not in _PARTS:
            raise yamls.unknown_key(key, _PARTS, where=document.where((*path, key)))
        if not isinstance(value, str):
            raise _wrong(document, (*path, key), value, "text")
        try:
            _PARTS[key](value)
        except ValueError as wanted:
            raise _wrong(document, (*path, key), value, str(wanted)) from None
    return Rule(**item)


def _role(name: str) -> str:
    """Return a role as it is. Raises `ValueError` with what was wanted."""
    if name not in names.ROLES:
        raise ValueError(", ".join(names.ROLES))
    return name


def _workflows(document: yamls.Document, listed: Any) -> tuple[str, ...]:
    """Return the patterns of workflows that this site takes part in."""
    return _names(document, "workflows", listed, 'a list of names, such as [fedavg, "flow.py:*"]')


def _images(document: yamls.Document, listed: Any) -> tuple[str, ...]:
    """Return the patterns of images that a job may name."""
    return _names(
        document, "images", listed, 'a list of images, such as ["registry.example.org/convoy-torch@sha256:*"]'
    )


def _names(document: yamls.Document, key: str, listed: Any, wanted: str) -> tuple[str, ...]:
    """Return a list of patterns, checked."""
    if not isinstance(listed, list) or not all(isinstance(it, str) and it for it in listed):
        raise _wrong(document, (key,), listed, wanted)
    return tuple(listed)


def _isolation(document: yamls.Document, listed: Any) -> tuple[str, ...]:
    """Return the parts of a machine that jobs must be isolated from."""
    if not isinstance(listed, list) or not all(it in ISOLATED for it in listed):
        raise _wrong(document, ("isolation",), listed, f"a list of {', '.join(ISOLATED)}")
    return tuple(listed)


def _limits(document: yamls.Document, given: Any) -> Limits:
    """Return the most that one job may ask for."""
    found: dict[str, float] = {}
    for key, value in _mapping(document, "limits", given, ("cpu", "memory", "gpu", "state")).items():
        if key in _SIZES:
            found[key] = _size(document, ("limits", key), value)
            continue
        try:
            found[key] = _amount(value)
        except BadInput as problem:
            raise _wrong(document, ("limits", key), value, "a number from 0 up") from problem
    return Limits(**found)


def _size(document: yamls.Document, path: tuple[str, ...], value: Any) -> int:
    """Return a number of bytes."""
    try:
        return units.size_bytes(value)
    except BadInput as problem:
        raise _wrong(document, path, value, "a size such as 512Mi or 8Gi") from problem


def _amount(value: Any) -> float:
    """Return a number from 0 up. Raises `BadInput`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadInput("no value")
    return float(value)


def _leave(document: yamls.Document, given: Any) -> Leave:
    """Return what may leave beside updates."""
    keys = ("logs", "metrics", "live", "weight", "values", "resources", "arrays", "artifacts")
    found = _mapping(document, "leave", given, keys)
    for key, value in found.items():
        if key in {"arrays", "artifacts"}:
            found[key] = _size(document, ("leave", key), value)
        elif key == "live":
            found[key] = _live(document, value)
        elif key == "weight":
            if value not in WEIGHTS:
                raise _wrong(document, ("leave", key), value, " or ".join(WEIGHTS))
        elif not isinstance(value, bool):
            raise _wrong(document, ("leave", key), value, "true or false")
    return Leave(**found)


def _live(document: yamls.Document, given: Any) -> Live | None:
    """Return which live metrics may leave: true and false stand for the defaults and for none."""
    if isinstance(given, bool):
        return Live() if given else None
    known = ("keys", "per_hour", "digits")
    if not isinstance(given, dict):
        raise _wrong(document, ("leave", "live"), given, f"true, false, or a mapping with {', '.join(known)}")
    found = dict(given)
    for key, value in given.items():
        path = ("leave", "live", key)
        if key not in known:
            raise yamls.unknown_key(key, known, where=document.where(path))
        if key == "keys":
            if not isinstance(value, list) or not all(isinstance(it, str) and it for it in value):
                raise _wrong(document, path, value, 'a list of patterns, such as [loss, "val_*"]')
            found[key] = tuple(value)
        elif isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST[key]:
            raise _wrong(document, path, value, f"a whole number from 1 to {_MOST[key]}")
    return Live(**found)


def _mapping(document: yamls.Document, name: str, given: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """Return a mapping that has known keys alone."""
    if not isinstance(given, dict):
        raise _wrong(document, (name,), given, f"a mapping with {', '.join(known)}")
    for key in given:
        if key not in known:
            raise yamls.unknown_key(key, known, where=document.where((name, key)))
    return given


def _filters(document: yamls.Document, listed: Any) -> tuple[Filter, ...]:
    """Return the filters; no list at all is an empty one."""
    if not isinstance(listed or [], list):
        raise _wrong(document, ("filters",), listed, "a list")
    return filters.read_all(document, listed or [])


def _wrong(document: yamls.Document, path: tuple[str | int, ...], value: Any, wanted: str) -> BadInput:
    """Return the error for a value that does not fit."""
    return BadInput(f'"{path[-1]}" is {yamls.seen(value)}; wanted {wanted}', where=document.where(path))


KEYS: Final[Mapping[str, Callable[[yamls.Document, Any], Any]]] = {
    "run": _rules,
    "workflows": _workflows,
    "images": _images,
    "limits": _limits,
    "leave": _leave,
    "filters": _filters,
    "tables": tables.read,
    "isolation": _isolation,
}
_PARTS: Final[Mapping[str, Callable[[str], str]]] = {"person": names.person, "org": names.org, "role": _role}
