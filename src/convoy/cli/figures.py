"""Pictures that a `statistics.json` asks for: curves, bars and intervals, each drawn from numbers that are checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convoy.cli.output import Screen


def draw(axes: Any, kind: str, picture: Mapping[str, Any]) -> None:
    """Draw one of those that are `listed` on the axes of matplotlib."""
    axes.set(xlabel=_text(picture.get("x", "")), ylabel=_text(picture.get("y", "")))
    if kind == "lines":
        _lines(axes, picture)
    elif kind == "bars":
        places = range(len(picture["heights"]))
        axes.bar(places, picture["heights"])
        axes.set_xticks(places, [_text(it) for it in picture["labels"]], fontsize=7)
    else:
        places = range(len(picture["middle"]))
        axes.hlines(places, picture["low"], picture["high"])
        axes.plot(picture["middle"], places, "s")
        axes.axvline(0.0, color="0.7", linewidth=1)
        axes.set_yticks(places, [_text(it) for it in picture["labels"]], fontsize=7)
        axes.invert_yaxis()


def save(screen: Screen, figure: Any, folder: Path, name: str) -> None:
    """Write a figure of matplotlib into `NAME.png`, and say so; what may not be in a file's name becomes `_`."""
    file = folder / f"{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:80]}.png"
    figure.savefig(file, dpi=100)
    screen.line(f"a picture: {file}")


def _lines(axes: Any, picture: Mapping[str, Any]) -> None:
    steps = picture.get("steps") is True
    for line in picture["lines"]:
        (drawn,) = axes.plot(
            line["x"], line["y"], label=_text(line.get("label", "")), drawstyle="steps-post" if steps else "default"
        )
        if "low" in line:
            axes.fill_between(
                line["x"], line["low"], line["high"], step="post" if steps else None, alpha=0.2, color=drawn.get_color()
            )
    if "ticks" in picture:
        axes.set_xticks(range(len(picture["ticks"])), [_text(it) for it in picture["ticks"]], fontsize=7, rotation=90)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=7)


def _text(value: Any) -> str:
    """Return text as it is, without the mathematics that matplotlib would read in it."""
    return str(value)[:100].replace("$", r"\$")
