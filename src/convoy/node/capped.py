"""A log file of bounded size that keeps its head and its tail, and says how much is missing between them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HEAD: Final = 44 << 20  # bytes that are appended directly
TAIL: Final = 8 << 20  # bytes; the last one or two pieces of this size are kept of the rest
MAX_LOG: Final = HEAD + 2 * TAIL + (1 << 20)  # bytes of one job's log at one site, with the line about the gap


@dataclass(slots=True)
class CappedLog:
    """Appends to `path`; output beyond the head goes to two other files until `close` appends it.

    The files are the only state, so a log that was not closed continues where it was. On a full disk, lines are lost.
    """

    path: Path
    head: int = HEAD
    tail: int = TAIL

    def append(self, lines: bytes) -> None:
        """Add whole lines."""
        if not lines:
            return
        older, newer = self._tails
        with suppress(OSError):
            if not newer.exists() and _size(self.path) + len(lines) <= self.head:
                _append(self.path, lines)
                return
            if _size(newer) + len(lines) > self.tail:
                self._note_dropped(_size(older))
                if newer.exists():
                    newer.replace(older)
            _append(newer, lines[-self.tail :])

    def close(self, stamp: bytes = b"") -> None:
        """Append the tail to the head, with a line in between that says how much is missing."""
        older, newer = self._tails
        if not newer.exists():
            return
        with suppress(OSError):
            lost = self._dropped
            if lost:
                said = f"convoy: {lost} bytes of output are missing here: a log keeps its beginning and its end"
                _append(self.path, b"%s%s\n" % (stamp, said.encode()))
            for part in (older, newer):
                if part.exists():
                    if _size(self.path) < MAX_LOG:  # a worker that was started often has closed it as often
                        _append(self.path, part.read_bytes())
                    part.unlink()
            self._count.unlink(missing_ok=True)

    @property
    def _tails(self) -> tuple[Path, Path]:
        return self.path.with_suffix(".older"), self.path.with_suffix(".newer")

    @property
    def _count(self) -> Path:
        return self.path.with_suffix(".dropped")

    @property
    def _dropped(self) -> int:
        return int(self._count.read_text()) if self._count.exists() else 0

    def _note_dropped(self, size: int) -> None:
        if size:
            self._count.write_text(str(self._dropped + size))


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
