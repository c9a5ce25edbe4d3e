"""The `statistics.json` of a job, for people: tables on the screen, and a picture of each histogram."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.admin import findings
from convoy.cli import figures

if TYPE_CHECKING:
    from convoy.cli.output import Screen


def say(screen: Screen, data: bytes) -> None:
    """Print the tables of a `statistics.json`, whoever has written it."""
    for table in findings.tables(findings.read(data)):
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
    document = findings.read((folder / findings.FILE).read_bytes())
    for name, kind, found in findings.pictures(document):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        if kind == "histogram":
            widths = [high - low for low, high in zip(found["edges"], found["edges"][1:], strict=False)]
            heights = [rows / width if width > 0 else 0.0 for rows, width in zip(found["counts"], widths, strict=True)]
            axes.stairs(heights, found["edges"], fill=True)
            axes.set(xlabel=name, ylabel=f"rows per unit of {name}")
        elif kind in findings.KINDS:
            figures.draw(axes, kind, found)
        else:
            matrix = [[it if findings.is_number(it) else math.nan for it in row] for row in found["matrix"]]
            figure.colorbar(axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r"), ax=axes)
            for ticks in (axes.set_xticks, axes.set_yticks):
                ticks(range(len(found["columns"])), found["columns"], fontsize=7)
            axes.tick_params(axis="x", rotation=90)
        figures.save(screen, figure, folder, f"{kind}-{name[:60]}")
