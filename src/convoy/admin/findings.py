"""The `statistics.json` of a job as a client reads it: tables and pictures, checked before anybody shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from convoy.errors import RemoteFault
from convoy.spec import jsons
from convoy.store.report import STATISTICS

FILE: Final = STATISTICS
MAX_BYTES: Final = 16 << 20  # of a statistics.json that is shown: correlations of 500 columns have 8 MiB
MAX_NODES: Final = 400_000  # lists and mappings in it
LARGEST: Final = 1e300  # number that is drawn
MAX_PICTURES: Final = 20  # of one document
MAX_LINES: Final = 50  # of one picture


def read(data: bytes) -> Mapping[str, Any]:
    """Return what a `statistics.json` says. Raises `RemoteFault` for what is not one."""
    try:
        found = jsons.load(data, most=MAX_NODES)
    except (ValueError, RecursionError) as problem:
        raise RemoteFault(f"{FILE} cannot be read", why=str(problem)) from problem
    if not isinstance(found, dict):
        raise RemoteFault(f"{FILE} cannot be read", why=f"it is {json.dumps(found)[:50]}, not a mapping")
    return found


def tables(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tables that are tables: a title, and as many cells in each row as there are heads."""
    listed = document.get("tables")
    for table in listed if isinstance(listed, list) else ():
        if isinstance(table, dict) and isinstance(heads := table.get("heads"), list) and heads:
            rows = [row for row in _list(table.get("rows")) if isinstance(row, list) and len(row) == len(heads)]
            notes = [str(it) for it in _list(table.get("notes"))]
            yield {
                "title": str(table.get("title", "")),
                "heads": [str(it) for it in heads],
                "rows": rows,
                "notes": notes,
            }


def pictures(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield what can be drawn: its name, its kind and its numbers."""
    columns = document.get("columns")
    for name, it in (columns if isinstance(columns, dict) else {}).items():
        bars = it.get("histogram") if isinstance(it, dict) else None
        if not isinstance(bars, dict) or not (_numbers(bars.get("counts")) and _numbers(bars.get("edges"))):
            continue
        if len(bars["edges"]) == len(bars["counts"]) + 1:
            yield name, "histogram", bars
    found = document.get("correlation")
    if isinstance(found, dict) and (names := _list(found.get("columns"))):
        rows = _list(found.get("matrix"))
        if len(rows) == len(names) and all(len(_list(row)) == len(names) for row in rows):
            yield "columns", "correlation", {"columns": [str(it) for it in names], "matrix": rows}
    yield from listed(document)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def listed(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield what can be drawn of `pictures`: a name, the kind, and the picture."""
    found = document.get("pictures")
    for picture in found[:MAX_PICTURES] if isinstance(found, list) else ():
        if (
            isinstance(picture, dict)
            and isinstance(kind := picture.get("kind"), str)
            and KINDS.get(kind, _never)(picture)
        ):
            yield str(picture.get("name", ""))[:100], kind, picture


def _are_lines(picture: Mapping[str, Any]) -> bool:
    lines, ticks = picture.get("lines"), picture.get("ticks", [])
    if not isinstance(lines, list) or not 0 < len(lines) <= MAX_LINES or not isinstance(ticks, list):
        return False
    return all(isinstance(line, dict) and _is_line(line) for line in lines)


def _is_line(line: Mapping[str, Any]) -> bool:
    names = ("x", "y", "low", "high") if "low" in line else ("x", "y")
    return all(_numbers(line.get(name)) for name in names) and len({len(line[name]) for name in names}) == 1


def _are_bars(picture: Mapping[str, Any]) -> bool:
    heights, labels = picture.get("heights"), picture.get("labels")
    return _numbers(heights) and isinstance(labels, list) and len(labels) == len(heights or ())


def _are_intervals(picture: Mapping[str, Any]) -> bool:
    parts, labels = [picture.get(name) for name in ("middle", "low", "high")], picture.get("labels")
    if not isinstance(labels, list) or not all(map(_numbers, parts)):
        return False
    return all(len(part or ()) == len(labels) for part in parts)


def _never(_: Mapping[str, Any]) -> bool:
    return False


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_number, value))


def is_number(value: Any) -> bool:
    """Return whether this is a number that can be drawn."""
    return isinstance(value, float | int) and abs(value) < LARGEST


KINDS: Final = {"lines": _are_lines, "bars": _are_bars, "intervals": _are_intervals}
