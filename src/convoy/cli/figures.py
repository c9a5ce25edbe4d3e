"""Pictures that a `statistics.json` asks for: curves, bars and intervals, each drawn from numbers that are checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from convoy.cli.output import Screen

LARGEST: Final = 1e300  # number that is drawn
MAX_PICTURES: Final = 20  # of one document
MAX_LINES: Final = 50  # of one picture


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
