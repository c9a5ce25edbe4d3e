"""The log file of a node that `convoy up` started: at a size it is put aside, and a few of those are kept."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "CONVOY_NODE_LOG"  # in a node's environment: the file that its output goes to
MOST: Final = 16 << 20  # bytes of one file; a warning that comes ten times a second takes some hours for that
KEPT: Final = 4  # older files, `node.log.1` being the newest: a node's logs have 80 MiB at most


@dataclass(eq=False)  # structlog refers to each file weakly
class NodeLog:
    """Standard error as structlog writes to it; where a file is behind it, the file is turned over in time.

    The file's descriptor is replaced, not the stream: what libraries print goes into the new file as well.
    """

    path: Path | None = None  # None: whoever started the node keeps what it writes
    most: int = MOST
    kept: int = KEPT

    @classmethod
    def of_process(cls) -> NodeLog:
        """Return the log of this process, as whoever started it said."""
        named = os.environ.get(VARIABLE, "")
        return cls(Path(named) if named else None)

    def write(self, text: str) -> int:
        """Write a text."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Bring it out, then turn the file over if it is full."""
        sys.stderr.flush()
        if self.path is not None:
            with suppress(OSError):  # a full disk: the log goes on in the file that it has
                self._turn(self.path)

    def _turn(self, path: Path) -> None:
        if os.fstat(2).st_size < self.most:
            return
        for number in range(self.kept, 0, -1):
            older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number}"))
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            for standard in (1, 2):
                os.dup2(fresh, standard)
        finally:
            os.close(fresh)
