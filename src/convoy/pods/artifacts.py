"""What a trainer in a pod has left in artifacts/, on its way to its node: pieces of files, in bounded number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convoy.node.leftovers import files, length, opened
from convoy.trust import paths
from convoy.wire import pods_pb2
from convoy.worker.site_folders import ARTIFACTS

MAX_FILES: Final = 10_000  # of one trainer
PIECE: Final = 1 << 16  # bytes of a file in one message
PART: Final = ".part"  # the end of the name of a file of which bytes are missing; no path may have it


def pieces(code: Path) -> Iterator[pods_pb2.Piece]:
    """Yield the artifacts of the trainer that ran in a folder, in pieces; the trainer has ended.

    A file that cannot be read is left out, or has no last piece; so is what follows a folder that cannot be read.
    """
    with suppress(OSError):
        for path in files(code / ARTIFACTS):
            with suppress(OSError):
                yield from _pieces(path, path.relative_to(code / ARTIFACTS).as_posix())


def _pieces(path: Path, name: str) -> Iterator[pods_pb2.Piece]:
    if length(path) < 0:
        return
    name = name.encode(errors="replace").decode()  # what is not UTF-8 becomes a "?", and no path may have one
    with opened(path) as reading:
        data = reading.read(PIECE)
        while True:
            following = reading.read(PIECE)
            yield pods_pb2.Piece(path=name, data=data, last=not following)
            if not following:
                break
            data = following


@dataclass(slots=True)
class Arriving:
    """Writes the pieces that a pod sends into the folder of the job's code at its node, one file after the other.

    A file that cannot be kept is counted, and the following ones still come.
    """

    code: Path
    most: int  # bytes
    size: int = 0  # of what lies there
    count: int = 0  # files that lie there
    begun: int = 0  # files that the pod began to send
    missing: int = 0  # files that are not complete
    _path: str | None = None  # of the file that is coming
    _here: int = 0  # its bytes so far
    _before: int = -1  # bytes of the file that it replaces; -1: there is none
    _skipped: bool = False  # it is too large, or its name is not allowed

    def __post_init__(self) -> None:
        """Count what lies there already, such as what another pod of the job has sent."""
        for path in files(self.code / ARTIFACTS):
            self.count, self.size = self.count + 1, self.size + max(_length(path), 0)

    def take(self, piece: pods_pb2.Piece) -> None:
        """Write a piece; a complete file gets its name."""
        if piece.path != self._path:
            self._begin(piece.path)
        if not self._skipped and not self._written(piece):
            self._skipped = True
            self._remove()
        if piece.last:
            self.missing += self._skipped
            self._path = None

    def _begin(self, path: str) -> None:
        self.end()
        self.begun += 1
        self._path, self._here, self._before = path, 0, -1
        bad = paths.problem([path]) or paths.problem([path + PART]) or path.endswith(PART)
        self._skipped = bool(bad) or self.begun > MAX_FILES
        if not self._skipped:
            self._before = _length(self.code / ARTIFACTS / path)

    def _written(self, piece: pods_pb2.Piece) -> bool:
        """Write a piece; return whether there was room for it, and the file system takes the name."""
        mode, replaced = "ab" if self._here else "wb", max(self._before, 0)
        self._here += len(piece.data)
        if self.size - replaced + self._here > self.most or (self._before < 0 and self.count >= MAX_FILES):
            return False
        target = self.code / ARTIFACTS / piece.path
        part = target.with_name(target.name + PART)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open(mode) as file:
                file.write(piece.data)
            if piece.last:
                part.replace(target)
        except OSError:  # also a file and a folder of one name
            return False
        if piece.last:
            self.count, self.size = self.count + (self._before < 0), self.size - replaced + self._here
        return True

    def _remove(self) -> None:
        """Remove what has come of the file, and the folders that are empty without it."""
        target = self.code / ARTIFACTS / (self._path or "")
        with suppress(OSError):
            target.with_name(target.name + PART).unlink(missing_ok=True)
        with suppress(OSError):  # the first folder that is not empty
            for folder in target.parents:
                if folder == self.code:
                    break
                folder.rmdir()

    def end(self) -> str:
        """Remove what is not complete; return a line for the job's log if something is missing, else nothing."""
        if self._path is not None:
            if not self._skipped:
                self._remove()
            self.missing, self._path = self.missing + 1, None
        if not self.missing:
            return ""
        return (
            f"{self.missing} files of {ARTIFACTS}/ did not come from the pod: it ended before, they are too large, "
            "there are too many, or their names are not allowed"
        )


def _length(path: Path) -> int:
    """Return the length of a regular file, -1 where there is none."""
    try:
        return length(path)
    except OSError:
        return -1
