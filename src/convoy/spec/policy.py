"""A site's policy, from local/policy.yaml: the filters that every update of it passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from convoy.errors import BadInput
from convoy.spec import yamls


@dataclass(frozen=True, slots=True)
class Policy:
    """Each filter is a mapping of one name to its checked argument, in the order they apply.

    `{"exclude": [glob, ...]}`, `{"clip": {"norm": 1.0}}`, `{"noise": {"sigma": 0.01}}`.
    """

    filters: tuple[Mapping[str, Any], ...] = ()


def read_policy(path: Path) -> Policy:
    """Return the policy in a file. Raises `BadInput`; a missing file too, since it may have held filters."""
    if not path.is_file():
        raise BadInput(
            f"there is no {path}",
            why="a site without its policy would send what the policy holds back",
            fix="put the file back; `filters: []` in it means that nothing is filtered",
        )
    document = yamls.load_file(path)
    data = document.mapping()
    for key in data:
        if key != "filters":
            raise yamls.unknown_key(key, ["filters"], where=document.where((key,)))
    listed = data.get("filters") or []
    if not isinstance(listed, list):
        raise BadInput(f'"filters" is {yamls.seen(listed)}; wanted a list', where=document.where(("filters",)))
    return Policy(tuple(_filter(document, index, item) for index, item in enumerate(listed)))


def _filter(document: yamls.Document, index: int, item: Any) -> dict[str, Any]:
    """Return one filter, checked."""
    path = ("filters", index)
    if not isinstance(item, dict) or len(item) != 1:
        raise BadInput(
            f"{yamls.seen(item)} is no filter",
            fix="write one filter in one item, such as `- clip: {norm: 1.0}`",
            where=document.where(path),
        )
    ((name, argument),) = item.items()
    if name not in _FILTERS:
        raise yamls.unknown_key(name, _FILTERS, where=document.where((*path, name)))
    wanted, check = _FILTERS[name]
    if not check(argument):
        raise BadInput(f'"{name}" has {yamls.seen(argument)}; wanted {wanted}', where=document.where((*path, name)))
    return item


def _patterns(argument: Any) -> bool:
    """Return whether this is a list of shell patterns."""
    return isinstance(argument, list) and bool(argument) and all(isinstance(it, str) and it for it in argument)


def _positive(key: str) -> Callable[[Any], bool]:
    """Return a check for a mapping of `key` alone to a number above 0."""

    def check(argument: Any) -> bool:
        if not isinstance(argument, dict) or set(argument) != {key}:
            return False
        value = argument[key]
        return isinstance(value, int | float) and not isinstance(value, bool) and value > 0

    return check


_FILTERS: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "exclude": ('a list of patterns of tensor names, such as ["head.*"]', _patterns),
    "clip": ("{norm: …}, the largest L2 norm of an update's difference, above 0", _positive("norm")),
    "noise": ("{sigma: …}, the standard deviation of the noise, above 0", _positive("sigma")),
}
