"""What commands print: lines and tables for people, JSON for programs, errors of three lines."""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convoy.spec import cross_metrics
from convoy.spec.printable import many_lines, one_line

if TYPE_CHECKING:
    from convoy.admin.views import View
    from convoy.errors import ConvoyError


def ready() -> None:
    """Let a terminal without UTF-8 show what it can, and the rest as escapes, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a command's answer goes; `json`: one document, or one a line where the answer is a stream."""

    json: bool = False

    @property
    def live(self) -> bool:
        """Whether a person watches."""
        return sys.stdout.isatty() and not self.json

    def line(self, text: str = "") -> None:
        """Print one line for people, whatever is in it; programs do not get it."""
        if not self.json:
            print(one_line(text), flush=True)  # noqa: T201 - this is the one place

    def block(self, text: str, indent: str = "  ") -> None:
        """Print a text of many lines for people; indented, none of them looks like a line of ours."""
        for part in many_lines(text).rstrip().split("\n"):
            self.line(f"{indent}{part}" if part else "")

    def data(self, said: View | Sequence[View] | Mapping[str, Any]) -> None:
        """Print JSON for programs; people do not get it."""
        if self.json:
            print(json.dumps(_finite(plain(said)), allow_nan=False), flush=True)  # noqa: T201 - this is the one place

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
        """Print columns for people; `empty` where there are no rows."""
        cells = [[one_line(str(cell)) for cell in row] for row in rows]
        if not cells:
            self.line(empty)
            return
        widths = [max(len(row[column]) for row in [list(heads), *cells]) for column in range(len(heads))]
        for row in [[head.upper() for head in heads], *cells]:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def pairs(self, said: Mapping[str, object]) -> None:
        """Print names and values for people."""
        width = max((len(name) for name in said), default=0)
        for name, value in said.items():
            self.line(f"{name.ljust(width)}  {value}")


def plain(said: View | Sequence[View] | Mapping[str, Any]) -> Any:
    """Return what JSON can say of views."""
    if isinstance(said, Mapping):
        return dict(said)
    if isinstance(said, Sequence):
        return [view.model_dump(mode="json") for view in said]
    return said.model_dump(mode="json")


def _finite(said: Any) -> Any:
    """Return JSON values with null for each number that JSON cannot say."""
    match said:
        case dict():
            return {key: _finite(value) for key, value in said.items()}
        case list() | tuple():
            return [_finite(value) for value in said]
        case float() if not math.isfinite(said):
            return None
    return said


def fail(problem: ConvoyError, *, as_json: bool = False) -> int:
    """Print an error on standard error, as its three lines or as JSON; return the exit code."""
    if as_json:
        from convoy.admin.faults import to_json

        text = json.dumps({"error": to_json(problem)})
    else:
        text = "\n".join(_three(problem))
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the one place
    return problem.exit_code


def _three(problem: ConvoyError) -> Iterable[str]:
    yield f"error: {_hung(problem.what)}"
    if problem.why:
        yield f"  why: {_hung(problem.why)}"
    if problem.fix:
        yield f"  fix: {_hung(problem.fix)}"


def _hung(text: str) -> str:
    return many_lines(text).rstrip().replace("\n", "\n       ")


def ago(then: float) -> str:
    """Return how long ago a time was, in its largest unit."""
    return f"{span(time.time() - then)} ago" if then else "never"


def span(seconds: float) -> str:
    """Return a length of time in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def clock(then: float) -> str:
    """Return a time of the local calendar; a dash for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then)) if then else "-"


def size(count: int) -> str:
    """Return bytes in their largest unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"


def cut(text: str, length: int) -> str:
    """Return the beginning of a text, of at most so many characters."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def metrics(said: Mapping[str, float]) -> str:
    """Return metrics in one line, four digits each."""
    return cross_metrics.one_line(said)
