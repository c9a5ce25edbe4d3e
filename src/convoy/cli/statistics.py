"""The `statistics.json` of a job, for people: tables on the screen, and a picture of each histogram."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convoy.cli import figures
from convoy.cli.figures import is_number
from convoy.errors import RemoteFault
from convoy.spec import jsons
from convoy.store.report import STATISTICS

if TYPE_CHECKING:
    from convoy.cli.output import Screen

FILE: Final = STATISTICS
MAX_BYTES: Final = 16 << 20  # of a statistics.json that a command shows: correlations of 500 columns have 8 MiB
MAX_NODES: Final = 400_000  # lists and mappings in it


def say(screen: Screen, data: bytes) -> None:
    """Print the tables of a `statistics.json`, whoever has written it."""
    for table in _tables(_read(data)):
        screen.line()
        screen.line(table["title"])
        screen.table(table["heads"], table["rows"])
        for note in table["notes"]:
            screen.line(f"note: {note}")


def draw(screen: Screen, folder: Path) -> None:
    """Draw each histogram, the correlations and `pictures` into PNG files beside `statistics.json`, and say so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        screen.line("there are no pictures: drawing them needs matplotlib (pip install 'convoy-fl[demo]')")
        return
    document = _read((folder / FILE).read_bytes())
    for name, kind, found in _pictures(document):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        if kind == "histogram":
            widths = [high - low for low, high in zip(found["edges"], found["edges"][1:], strict=False)]
            heights = [rows / width if width > 0 else 0.0 for rows, width in zip(found["counts"], widths, strict=True)]
            axes.stairs(heights, found["edges"], fill=True)
            axes.set(xlabel=name, ylabel=f"rows per unit of {name}")
        elif kind in figures.KINDS:
            figures.draw(axes, kind, found)
        else:
            matrix = [[it if is_number(it) else math.nan for it in row] for row in found["matrix"]]
            figure.colorbar(axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r"), ax=axes)
            for ticks in (axes.set_xticks, axes.set_yticks):
                ticks(range(len(found["columns"])), found["columns"], fontsize=7)
            axes.tick_params(axis="x", rotation=90)
        figures.save(screen, figure, folder, f"{kind}-{name[:60]}")


def _read(data: bytes) -> Mapping[str, Any]:
    """Return what a `statistics.json` says. Raises `RemoteFault` for what is not one."""
    try:
        found = jsons.load(data, most=MAX_NODES)
    except (ValueError, RecursionError) as problem:
        raise RemoteFault(f"{FILE} cannot be read", why=str(problem)) from problem
    if not isinstance(found, dict):
        raise RemoteFault(f"{FILE} cannot be read", why=f"it is {json.dumps(found)[:50]}, not a mapping")
    return found


def _tables(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
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


def _pictures(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
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
    yield from figures.listed(document)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_number, value))
