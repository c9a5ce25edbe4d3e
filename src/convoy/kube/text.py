"""Objects as the YAML that people keep: keys in a fixed order, texts of many lines as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import yaml

_NUMBER: Final = re.compile(r"[-+]?[0-9.][0-9_.]*[eE][-+]?[0-9]+|0[oO][0-7_]+")  # to readers of YAML 1.2, not to ours
_FIRST: Final = ("apiVersion", "kind", "metadata", "name", "namespace")


class _Dumper(yaml.SafeDumper):
    """YAML without aliases, with lists indented and long texts as blocks."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Write everything out."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - its name is called
        """Indent the items of a list."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    style = "|" if "\n" in data else "'" if _NUMBER.fullmatch(data) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(objects: Iterable[dict[str, Any]]) -> str:
    """Return the objects as YAML documents."""
    return "".join(
        "---\n" + yaml.dump(_ordered(it), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        for it in objects
    )


def _ordered(value: Any) -> Any:
    """Return a value with the keys of every mapping sorted, behind those that people look for first."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=_place)}
    return [_ordered(item) for item in value] if isinstance(value, list | tuple) else value


def _place(key: str) -> tuple[int, str]:
    return (_FIRST.index(key), "") if key in _FIRST else (len(_FIRST), key)
