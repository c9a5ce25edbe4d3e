"""What a worker prints, as whole lines that begin with the time (UTC, milliseconds)."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from convoy.spec.printable import blanked

MAX_LINE: Final = 16 << 10  # bytes; a longer line is split, so that output without newlines cannot fill the memory
BAR_S: Final = 5.0  # between two samples of a progress bar, which overwrites its own line


class Stamper:
    """Turns a stream of bytes into lines with a time; of a line that is overwritten, the last version.

    An unfinished line waits for its end; one that overwrites itself, as a progress bar does, is sampled.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds since the epoch."""
        self._clock = clock
        self._rest = b""
        self._bar_at = -math.inf

    def lines(self, data: bytes) -> bytes:
        """Return the lines that `data` completes, each stamped and ended by a newline."""
        parts = (self._rest + data).split(b"\n")
        self._rest = parts.pop()
        parts += self._drawn()
        while len(self._rest) > MAX_LINE:
            parts.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        if not parts:
            return b""
        if any(b"\r" in part for part in parts):
            parts = [_visible(part) for part in parts]
        begin = self.now()
        return begin + blanked((b"\n" + begin).join(parts)) + b"\n"

    def _drawn(self) -> list[bytes]:
        """Drop the overwritten part of the unfinished line; return its last version if a sample is due."""
        cut = self._rest.rstrip(b"\r").rfind(b"\r")
        if cut < 0:
            return []
        drawn, self._rest = _visible(self._rest[:cut]), self._rest[cut + 1 :]
        if not drawn.strip() or self._clock() < self._bar_at + BAR_S:
            return []
        self._bar_at = self._clock()
        return [drawn]

    def flush(self) -> bytes:
        """Return the unfinished line, if there is one, as if it were ended."""
        rest, self._rest = self._rest, b""
        return self.now() + blanked(_visible(rest)) + b"\n" if rest else b""

    def now(self) -> bytes:
        """Return the time in the form in which lines begin."""
        return self._stamp() + b" "

    def _stamp(self) -> bytes:
        now = datetime.fromtimestamp(self._clock(), UTC)
        return now.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _visible(line: bytes) -> bytes:
    """Return the last version of a line that was overwritten; blanks, which only erase, are skipped."""
    *before, last = line.rstrip(b"\r").split(b"\r")
    return next((part for part in (last, *reversed(before)) if part.strip()), last)
