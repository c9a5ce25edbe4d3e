"""The rules of a site's policy for its tables: what statistics may release, and whether the code of jobs reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from convoy.errors import BadInput
from convoy.spec import yamls

ANYONE: Final = ""  # of `only`: statistics and the code of jobs
STATISTICS: Final = "statistics"
ANALYTICS: Final = "analytics"  # statistics, and fits: k-means, regressions, survival
MAX_DIGITS: Final = 17  # of a float64: more say nothing


@dataclass(frozen=True, slots=True)
class TableRules:
    """What may leave of a table. The defaults hold for each table that the policy does not name."""

    minimum_count: int = 10  # rows: what is over fewer is suppressed
    digits: int = 0  # significant ones, to which numbers are rounded; 0: they are not rounded
    extremes: bool = False  # whether minimum and maximum leave: each is the value of one row
    only: str = ANYONE  # or "statistics" or "analytics": no code of a job sees the table


def rules_of(tables: Iterable[tuple[str, TableRules]], name: str) -> TableRules:
    """Return the rules for a table: those of the first pattern that its name matches, else the defaults."""
    return next((rules for pattern, rules in tables if fnmatchcase(name, pattern)), TableRules())


def read(document: yamls.Document, given: Any) -> tuple[tuple[str, TableRules], ...]:
    """Return `tables` of policy.yaml: rules by name or shell pattern, in order. Raises `BadInput`."""
    if not isinstance(given, dict):
        raise _wrong(document, ("tables",), given, "rules by the name of a table, such as {patients: {…}}")
    return tuple((str(name), _rules(document, name, stated)) for name, stated in given.items())


def _rules(document: yamls.Document, name: str, stated: Any) -> TableRules:
    path = ("tables", name)
    if not isinstance(stated, dict):
        raise _wrong(document, path, stated, f"a mapping with {', '.join(_KEYS)}")
    for key, value in stated.items():
        if key not in _KEYS:
            raise yamls.unknown_key(key, _KEYS, where=document.where((*path, key)))
        wanted, fits = _KEYS[key]
        if not fits(value):
            raise _wrong(document, (*path, key), value, wanted)
    return TableRules(**stated)


def _whole(value: Any, least: int, most: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _wrong(document: yamls.Document, path: tuple[str | int, ...], value: Any, wanted: str) -> BadInput:
    return BadInput(f'"{path[-1]}" is {yamls.seen(value)}; wanted {wanted}', where=document.where(path))


_KEYS: Final[Mapping[str, tuple[str, Any]]] = {
    "minimum_count": ("a whole number from 1 up", lambda value: _whole(value, 1, 1 << 53)),
    "digits": (f"a whole number from 1 to {MAX_DIGITS}", lambda value: _whole(value, 1, MAX_DIGITS)),
    "extremes": ("true or false", lambda value: isinstance(value, bool)),
    "only": (
        f"`{STATISTICS}`, or `{ANALYTICS}`, which admits fits too; without this line, the code of jobs reads it",
        lambda it: it in (STATISTICS, ANALYTICS),
    ),
}
