"""Files that a job has left in a folder: links are not followed, and only regular files are opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

MAX_DEPTH: Final = 16  # folders below each other
_CACHES: Final = frozenset({"__pycache__", ".cache"})  # what Python and libraries write by themselves


def files(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield what is not a folder in a folder, in order, and folders that lie too deep; links are not followed."""
    if folder.is_symlink() or not folder.is_dir():
        return
    if depth > MAX_DEPTH:
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if path.name not in _CACHES:
                yield from files(path, depth + 1)
        else:
            yield path


def length(path: Path) -> int:
    """Return a regular file's length, -1 for anything else."""
    found = path.lstat()
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def opened(path: Path) -> BinaryIO:
    """Open a file to read, but no link and no FIFO."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
