"""Templates, and how values look in them: sizes, durations, times, numbers; everything that is shown is escaped."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

import convoy
from convoy.control import rights
from convoy.dashboard import vendored
from convoy.spec.printable import many_lines, one_line

FOLDER: Final = Path(__file__).parent
ASSETS: Final = FOLDER / "assets"
THEMES: Final = ("auto", "light", "dark")
THEME_COOKIE: Final = "convoy-theme"  # a script of ours writes it, so that the next page comes in these colours
HTMX: Final = (  # no inline style, no eval, no requests to elsewhere, and answers with errors are shown
    '{"includeIndicatorStyles": false, "allowEval": false, "selfRequestsOnly": true, "historyCacheSize": 0, '
    '"responseHandling": [{"code": "204", "swap": false}, {"code": "...", "swap": true}]}'
)
MARKS: Final[Mapping[str, str]] = {  # how a state is coloured; its word is always there too
    "running": "busy",
    "ending": "busy",
    "starting": "busy",
    "submitted": "idle",
    "completed": "good",
    "failed": "bad",
    "aborted": "warn",
    "connected": "good",
    "ready": "good",
    "away": "warn",
    "disabled": "idle",
    "revoked": "bad",
    "refused": "bad",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A page in the navigation."""

    path: str
    label: str
    right: rights.Right


@dataclass(frozen=True, slots=True)
class Pages:
    """The templates of this package; `places` are the lines of the navigation."""

    environment: jinja2.Environment
    places: tuple[Place, ...]

    def text(self, template: str, values: Mapping[str, Any]) -> Markup:
        """Return the HTML of a template with these values; another template may show it as it is."""
        return Markup(self.environment.get_template(template).render(values))  # noqa: S704 - it is escaped by then


def build(places: tuple[Place, ...]) -> Pages:
    """Return the templates, compiled as they are needed."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        size=size,
        span=span,
        ago=ago,
        clock=clock,
        number=number,
        count=count,
        mark=mark,
        lines=lines,
        percent=percent,
        seconds=seconds,
    )
    made.globals.update(
        styles=vendored.STYLES, scripts=vendored.SCRIPTS, htmx_config=HTMX, version=convoy.__version__, now=time.time
    )
    return Pages(made, places)


def _plain(value: Any) -> Any:
    """Return a value as it is shown: text of others without control characters that reorder or hide what is read."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def lines(text: str) -> Markup:
    """Return a text of many lines as it is shown in a `<pre>`."""
    return escape(many_lines(text))


def size(value: float) -> str:
    """Return bytes in their largest unit."""
    value = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.0f} TiB" if value >= 10 else f"{value:.1f} TiB"


def span(seconds: float) -> str:
    """Return a length of time in its largest unit."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            value = seconds / length
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def clock(at: float) -> str:
    """Return a time of the local calendar; a dash for none."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "-"
    except (ValueError, OverflowError, OSError):  # no calendar has this year
        return f"{at:.0f} s"


def seconds(value: float) -> str:
    """Return seconds with three significant digits, below one as milliseconds; a dash for none."""
    if 0 < value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{float(f'{value:.3g}'):,g} s" if value else "-"


def ago(at: float, word: str = "ago") -> Markup:
    """Return how long ago a time was, as an element whose title is the time itself; `never` for none."""
    if not at:
        return Markup("never")
    iso = datetime.fromtimestamp(min(at, 253402300799), UTC).isoformat(timespec="seconds")
    said = span(max(0.0, time.time() - at))
    return Markup('<time datetime="{}" title="{}">{} {}</time>').format(iso, clock(at), said, word)


def number(value: float) -> str:
    """Return a number with four significant digits; a dash for what is no number."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "∞" if value > 0 else "-∞"
    return f"{value:.4g}"


def count(value: int) -> str:
    """Return a whole number with separators of thousands."""
    return f"{value:,}"


def percent(part: float, whole: float) -> str:
    """Return a part of a whole in percent; a dash where there is no whole."""
    return f"{100 * part / whole:.0f} %" if whole else "-"


def mark(state: str) -> str:
    """Return the class that colours a state."""
    return MARKS.get(state, "idle")
