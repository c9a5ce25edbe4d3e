"""What a worker prints, as whole lines that begin with the time (UTC, milliseconds)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

MAX_LOG: Final = 64 << 20  # bytes of one job's log at one site; what is printed beyond is lost
MAX_LINE: Final = 16 << 10  # bytes; a longer line is broken, so that no print can fill the memory


class Stamper:
    """Turns a stream of bytes into stamped lines; an unfinished line waits for its end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds since the epoch."""
        self._clock = clock
        self._rest = b""

    def lines(self, data: bytes) -> bytes:
        """Return the lines that `data` completes, each stamped and ended by a newline."""
        parts = (self._rest + data).split(b"\n")
        self._rest = parts.pop()
        while len(self._rest) > MAX_LINE:
            parts.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        stamp = self._stamp()
        return b"".join(b"%s %s\n" % (stamp, part.rstrip(b"\r")) for part in parts)

    def flush(self) -> bytes:
        """Return the unfinished line, if there is one, as if it were ended."""
        rest, self._rest = self._rest, b""
        return b"%s %s\n" % (self._stamp(), rest) if rest else b""

    def _stamp(self) -> bytes:
        now = datetime.fromtimestamp(self._clock(), UTC)
        return now.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
