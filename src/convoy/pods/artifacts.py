"""What a trainer in a pod has left in artifacts/, on its way to its node: pieces of files, in bounded number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convoy.errors import RemoteFault
from convoy.node.leftovers import files, length, opened
from convoy.trust import paths
from convoy.wire import pods_pb2
from convoy.worker.places import ARTIFACTS

MAX_FILES: Final = 10_000  # of one trainer
PIECE: Final = 1 << 16  # bytes of a file in one message
PART: Final = ".part"  # the end of the name of a file of which bytes are missing; no path may have it


def pieces(code: Path) -> Iterator[pods_pb2.Piece]:
    """Yield the artifacts of the trainer that ran in a folder, in pieces; the trainer has ended."""
    for path in files(code / ARTIFACTS):
        if length(path) < 0:
            continue
        name = path.relative_to(code / ARTIFACTS).as_posix()
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
    """Writes the pieces that a pod sends into the folder of the job's code at its node, one file after the other."""

    code: Path
    most: int  # bytes
    size: int = 0  # of what is complete
    count: int = 0  # files that are complete
    missing: int = 0  # files that are not
    _path: str | None = None  # of the file that is coming
    _here: int = 0  # its bytes so far
    _skipped: bool = False  # it is too large

    def take(self, piece: pods_pb2.Piece) -> None:
        """Write a piece; a complete file gets its name. Raises `RemoteFault` for a path that is not safe."""
        if piece.path != self._path:
            self._begin(piece.path)
        self._here += len(piece.data)
        if self.size + self._here > self.most or self.count >= MAX_FILES:
            self._skipped = True
        target = self.code / ARTIFACTS / piece.path
        part = target.with_name(target.name + PART)
        try:
            if self._skipped:
                part.unlink(missing_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with part.open("ab") as file:
                    file.write(piece.data)
                if piece.last:
                    part.replace(target)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as problem:
            raise RemoteFault("its pod sent a file and a folder of one name", why=piece.path) from problem
        if piece.last:
            self.count, self.size, self.missing = (
                (self.count, self.size, self.missing + 1)
                if self._skipped
                else (self.count + 1, self.size + self._here, self.missing)
            )
            self._path = None

    def _begin(self, path: str) -> None:
        why = paths.problem([path]) or (f"it ends in {PART}" if path.endswith(PART) else "")
        if why:
            raise RemoteFault("its pod sent an artifact with a name that is not allowed", why=why)
        self.end()
        self._path, self._here, self._skipped = path, 0, False

    def end(self) -> str:
        """Remove what is not complete; return a line for the job's log if something is missing, else nothing."""
        if self._path is not None:
            target = self.code / ARTIFACTS / self._path
            target.with_name(target.name + PART).unlink(missing_ok=True)
            self.missing, self._path = self.missing + 1, None
        if not self.missing:
            return ""
        return f"{self.missing} files of {ARTIFACTS}/ did not come from the pod: it ended before, or they are too large"
