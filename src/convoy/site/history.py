"""The history of a site: a line for each job that began, ended or was refused, and for each answer; kept after jobs."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

JOBS: Final = "history.jsonl"  # in the site's working folder: a few lines for each job
ANSWERS: Final = "answers.jsonl"  # a line for each answer
MAX_BYTES: Final = 8 << 20  # of each file of the history; a full one replaces the older one, so there are two of each
MAX_LINE: Final = 32 << 10  # bytes; longer lines are not read, and written without their lists
MAX_TEXT: Final = 1000  # characters of one text in a line
MAX_REASON: Final = 200  # characters of the reason of an entry
MAX_NAME: Final = 80  # characters of one name in a list of a line
MAX_ITEMS: Final = 32  # names in one list of a line

BEGUN: Final = "begun"
REFUSED: Final = "refused"  # the site did not take the job
ENDED: Final = "ended"
ANSWER: Final = "answer"
STAYED: Final = "stayed"  # an answer that this site did not let out, or a task without one
REJECTED: Final = "rejected"  # an answer that the server did not take


@dataclass(slots=True)
class Journal:
    """Lines that are only appended, within two files. A kill loses at most the line that is being written.

    What a kill or a full disk left of a line is cut off before the next one.
    """

    path: Path
    max_bytes: int = MAX_BYTES
    _whole: bool = False  # the file ends with a whole line

    @property
    def older(self) -> Path:
        """The file before this one."""
        return older(self.path)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write an entry as one line. Raises `OSError` where it cannot be written, and leaves no half of it."""
        line = _line(entry)
        if not self._whole:
            self._mend()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and size + len(line) > self.max_bytes:
                self.path.replace(self.older)
                return self.add(entry)
            self._whole = False
            if file.write(line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError("there was room for a part of the line only")
        self._whole = True
        return None

    def _mend(self) -> None:
        """Cut off what follows the last whole line."""
        if self.path.exists():
            with self.path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - MAX_LINE, 0))
                tail = file.read()
                file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
        self._whole = True


def older(path: Path) -> Path:
    """Return the file that a journal's full file becomes."""
    return path.with_name(f"{path.stem}.1{path.suffix}")


def bounded(value: Any, most: int = MAX_TEXT) -> Any:
    """Return a JSON value whose texts and lists are cut to their bounds; numbers that JSON lacks become 0."""
    match value:
        case str():
            return value if len(value) <= most else f"{value[:most]}…"
        case Mapping():
            return {bounded(str(key), MAX_NAME): bounded(it, MAX_NAME) for key, it in list(value.items())[:MAX_ITEMS]}
        case list() | tuple():
            return [bounded(it, MAX_NAME) for it in value[:MAX_ITEMS]]
        case float() if not math.isfinite(value):
            return 0.0
        case _:
            return value


def _line(entry: Mapping[str, Any]) -> bytes:
    """Return an entry as a line; one that is too long is written without its lists, then without its texts' ends."""
    kept = {key: bounded(it, MAX_REASON if key == "reason" else MAX_TEXT) for key, it in entry.items()}
    if len(line := _written(kept)) <= MAX_LINE:
        return line
    short = {key: it for key, it in kept.items() if not isinstance(it, list | dict)}
    if len(line := _written(short)) <= MAX_LINE:
        return line
    return _written({key: bounded(it, MAX_NAME) for key, it in list(short.items())[:MAX_ITEMS]})


def _written(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode(errors="replace") + b"\n"


def entries(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the entries of whole lines; what is no entry, such as half of a line, is skipped."""
    for line in data.split(b"\n"):
        if not line or len(line) > MAX_LINE:
            continue
        with suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict) and isinstance(found.get("job"), str) and isinstance(found.get("kind"), str):
                yield found


def newest(path: Path) -> dict[str, Any] | None:
    """Return the last whole entry of a journal; None if it has none."""
    for file in (path, older(path)):
        with suppress(OSError):
            for line in reversed(file.read_bytes().split(b"\n")):
                with suppress(ValueError, RecursionError):
                    found = json.loads(line)
                    if isinstance(found, dict):
                        return found
    return None


@dataclass(slots=True)
class History:
    """Both files of a site. What cannot be written is said in the site's log, and the job goes on."""

    folder: Path
    warn: Callable[[str], None]
    clock: Callable[[], float] = time.time
    _jobs: Journal = field(init=False)
    _answers: Journal = field(init=False)

    def __post_init__(self) -> None:
        """Open nothing yet."""
        self._jobs, self._answers = Journal(self.folder / JOBS), Journal(self.folder / ANSWERS)

    def note(self, kind: str, job: str, **facts: Any) -> None:
        """Write an entry about a job: into the file of answers, or into that of jobs."""
        journal = self._answers if kind in (ANSWER, STAYED, REJECTED) else self._jobs
        try:
            journal.add({"at": round(self.clock(), 3), "kind": kind, "job": job, **facts})
        except OSError as problem:
            self.warn(f"{journal.path.name}: {problem}")
