"""What a site keeps of the server's audit trail: the checkpoints that it was sent, a line each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convoy.errors import RemoteFault
from convoy.trust import audit

FILE: Final = "witness.jsonl"  # in the site's working folder
MAX_BYTES: Final = 8 << 20  # about 6,000 checkpoints; beyond that the older ones are thinned out to half or less
DENSE: Final = 200  # checkpoints that are all kept, the newest; about 3,500 remain of a billion records
TAIL: Final = 2 * (audit.MAX_LINE + 1)  # bytes in which the last whole line lies, whatever was cut off behind it


@dataclass(slots=True)
class Checkpoints:
    """A file of checkpoints in the order in which they came. Nothing is verified before `convoy audit verify`."""

    path: Path
    max_bytes: int = MAX_BYTES
    dense: int = DENSE
    _last: audit.Checkpoint | None = None
    _known: bool = False  # whether the file has been looked at
    _limit: int = 0  # bytes at which it is thinned out

    def keep(self, checkpoint: audit.Checkpoint) -> str:
        """Write a checkpoint down if it is newer than the last one; return in words what is wrong with it, or nothing.

        Raises `RemoteFault` for one that cannot be and `OSError` if it cannot be written.
        """
        line = audit.line(checkpoint).encode()
        audit.read(line, where="the server's checkpoint")  # what is written down can be read again
        if not self._known:
            self._last, self._known, self._limit = self._newest(), True, self.max_bytes
        last = self._last
        if last is not None and checkpoint.seq <= last.seq:
            if checkpoint.seq == last.seq and checkpoint.hash == last.hash:
                return ""
            return f"it signs record {checkpoint.seq}, and record {last.seq} was signed before, with another history"
        with self.path.open("ab") as file:
            file.write(line + b"\n")
            size = file.tell()
        self._last = checkpoint
        if size > self._limit:
            self._thin()
        return ""

    def _newest(self) -> audit.Checkpoint | None:
        """Return the last checkpoint in the file; what a power cut left of a line is cut off."""
        if not self.path.exists():
            return None
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL, 0))
            whole, _, rest = file.read().rpartition(b"\n")
            file.truncate(size - len(rest))
        return _checkpoint(whole.rpartition(b"\n")[2]) if whole else None

    def _thin(self) -> None:
        """Thin out what is old: a checkpoint goes if its neighbour is nearer than its age / `dense`, in records.

        The first stays. Whoever rewrites the trail, be it of years ago, still meets a witness of soon after, and the
        number of checkpoints grows with the logarithm of the trail's length.
        """
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept: list[bytes] = []
        newest = before = 0
        for place, line in reversed(list(enumerate(lines))):
            checkpoint = _checkpoint(line)
            if checkpoint is None:
                kept.append(line)
                continue
            seq = checkpoint.seq
            newest = newest or seq
            if place == 0 or before == 0 or (before - seq) * self.dense >= newest - seq:
                kept.append(line)
                before = seq
        draft = self.path.with_suffix(".tmp")
        draft.write_bytes(b"".join(reversed(kept)))
        draft.replace(self.path)
        self._limit = max(self.max_bytes, 2 * sum(map(len, kept)))


def _checkpoint(line: bytes) -> audit.Checkpoint | None:
    try:
        entry = audit.read(line, where="the last line")
    except RemoteFault:  # somebody edited the file: `convoy audit verify` says so
        return None
    return entry if isinstance(entry, audit.Checkpoint) else None
