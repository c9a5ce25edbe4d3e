"""The files of a bundle as numbered lines, and what changed against an earlier bundle; pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

MAX_FILE: Final = 256 << 10  # bytes of one file that are shown
MAX_SHOWN: Final = 2 << 20  # bytes of all files of a bundle that are shown
MAX_LINES: Final = 5000  # lines of one file that are shown
MAX_COMPARED: Final = 2000  # lines of a file that is compared with an earlier one; the work may grow with their square
MAX_WORK: Final = 10_000  # lines of all files of a bundle that are compared
MAX_WIDTH: Final = 2000  # characters of one line
CONTEXT: Final = 3  # lines around a change

Mark = Literal["same", "added", "removed", "gap"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file: its number before and now, 0 where it has none."""

    mark: Mark
    old: int
    new: int
    text: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One file: how it changed, and its lines; `why` says what is not shown, and why."""

    name: str
    size: int
    change: Literal["", "same", "new", "changed", "removed"]
    lines: tuple[Line, ...] = ()
    changes: tuple[Line, ...] = ()
    why: str = ""


def shown(files: Mapping[str, memoryview], before: Mapping[str, memoryview] | None = None) -> list[Shown]:
    """Return each file as it may be read, in order; with `before`, also what changed and what was removed."""
    room, work, found = MAX_SHOWN, MAX_WORK, []
    for name in sorted(files):
        data = bytes(files[name])
        earlier = None if before is None or name not in before else bytes(before[name])
        made = _file(name, data, earlier, compared=before is not None, room=room, work=work)
        if made.lines:
            room -= len(data)
        if made.changes:
            work -= len(made.lines)
        found.append(made)
    gone = {} if before is None else {name: it for name, it in before.items() if name not in files}
    return [*found, *(Shown(name, len(gone[name]), "removed") for name in sorted(gone))]


def _file(name: str, data: bytes, earlier: bytes | None, *, compared: bool, room: int, work: int) -> Shown:
    change: Literal["", "same", "new", "changed"] = ""
    if compared:
        change = "new" if earlier is None else "same" if earlier == data else "changed"
    if len(data) > min(MAX_FILE, room):
        limit = "one file" if len(data) > MAX_FILE else "all files together"
        return Shown(name, len(data), change, why=f"It is longer than what is shown of {limit}.")
    text = _text(data)
    if text is None:
        return Shown(name, len(data), change, why="It is not text.")
    rows = text.split("\n")[: MAX_LINES + 1]
    why = f"Only its first {MAX_LINES:,} lines are shown." if len(rows) > MAX_LINES else ""
    long = any(len(row) > MAX_WIDTH for row in rows)
    why += f" Lines are cut after {MAX_WIDTH:,} characters." if long else ""
    lines = tuple(Line("same", 0, place, row[:MAX_WIDTH]) for place, row in enumerate(rows[:MAX_LINES], 1))
    changes: tuple[Line, ...] = ()
    if change == "changed" and earlier is not None:
        old = _text(earlier) if len(earlier) <= MAX_FILE else None
        before = [] if old is None else old.split("\n")
        if old is None or max(len(before), len(rows)) > min(MAX_COMPARED, work):
            why += " What changed in it is not shown: the file is too long or was not text."
        else:
            changes = tuple(difference(before, rows))
    return Shown(name, len(data), change, lines, changes, why.strip())


def _text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        return None


def difference(before: list[str], now: list[str]) -> Iterator[Line]:
    """Yield the lines that were removed and added, with some lines around them."""
    groups = difflib.SequenceMatcher(None, before, now, autojunk=True).get_grouped_opcodes(CONTEXT)
    for number, group in enumerate(groups):
        if number:
            yield Line("gap", 0, 0, "")
        for tag, old, old_end, new, new_end in group:
            if tag == "equal":
                for place in range(old_end - old):
                    yield Line("same", old + place + 1, new + place + 1, now[new + place][:MAX_WIDTH])
                continue
            for place in range(old, old_end):
                yield Line("removed", place + 1, 0, before[place][:MAX_WIDTH])
            for place in range(new, new_end):
                yield Line("added", 0, place + 1, now[place][:MAX_WIDTH])
