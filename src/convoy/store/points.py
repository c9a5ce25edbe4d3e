"""A file of points: appended to, thinned when it is full, and whole after a crash."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from convoy.control import points
from convoy.control.points import Point

FOLDER: Final = "points"  # among a job's results: a file for each site, and one for the workflow ("server")
MAX_FILE: Final = 1 << 20  # bytes of one site's points: about 10,000 lines, more than a plot has pixels
PIECE: Final = 128 << 10  # bytes that are read at once; the longest line has 123 KiB


def file_name(site: str) -> str:
    """Return the name of a site's file."""
    return f"{site}.jsonl"


class PointsFile:
    """Lines of growing numbers. The file is the only state; half of a line, which a crash leaves, is cut off.

    What cannot be written, because the disk is full, is lost.
    """

    def __init__(self, path: Path, most: int = MAX_FILE) -> None:
        """Go on with a file, or with none yet."""
        self.path, self._most = path, most
        self.thinnings = 0  # how often lines have moved within the file
        data = path.read_bytes() if path.exists() else b""
        self.size = data.rfind(b"\n") + 1
        if self.size < len(data):
            os.truncate(path, self.size)
        self.next = last_number(data[: self.size]) + 1  # the number of the next point

    def append(self, lines: bytes) -> bool:
        """Add whole lines, the first of which has a number from `next` on; return whether they are stored."""
        if not lines:
            return True
        try:
            with self.path.open("ab") as file:
                file.write(lines)
        except OSError:
            with suppress(OSError):
                os.truncate(self.path, self.size)  # half of a line may have had room
            return False
        self.size += len(lines)
        self.next = last_number(lines) + 1
        if self.size > self._most:
            self._thin()
        return True

    def add(self, point: Point) -> bool:
        """Add one point, which gets the next number; return whether it is stored."""
        return self.append(points.write(replace(point, number=self.next)))

    def _thin(self) -> None:
        lines = self.path.read_bytes().splitlines(keepends=True)
        while sum(map(len, lines)) > self._most * 2 // 3 and len(lines) > 1:
            lines = points.thinned(lines)
        draft = self.path.with_suffix(".tmp")
        try:
            draft.write_bytes(b"".join(lines))
            draft.replace(self.path)
        except OSError:
            return  # the disk is full: the next line tries again
        self.size = sum(map(len, lines))
        self.thinnings += 1


class Reader:
    """Reads each line of a file once, while the file grows and is thinned."""

    def __init__(self, file: PointsFile, number: int = 0) -> None:
        """Begin with the first line whose number is at least this one."""
        self.number = number  # of the next line that is read has this one at least
        self._file = file
        self._thinnings, self._place = -1, 0

    def seek(self, number: int) -> None:
        """Go on with the first line whose number is at least this one."""
        self.number, self._thinnings = number, -1

    def piece(self) -> bytes:
        """Return the next whole lines, `PIECE` bytes at most; nothing where there are none yet."""
        file = self._file
        if self._thinnings != file.thinnings:
            self._thinnings = file.thinnings
            self._place = points.place(file.path.read_bytes(), self.number) if file.size else 0
        wanted = b""
        while not wanted and self._place < file.size:
            with file.path.open("rb") as stream:
                stream.seek(self._place)
                data = stream.read(min(PIECE, file.size - self._place))
            data = data[: data.rfind(b"\n") + 1]
            if not data:
                break
            self._place += len(data)
            wanted = data[points.place(data, self.number) :]
        self.number = max(self.number, last_number(wanted) + 1)
        return wanted


def last_number(lines: bytes) -> int:
    """Return the number of the last of some lines; -1 if there are none."""
    return points.number(lines[lines.rfind(b"\n", 0, -1) + 1 :])


class PointsFiles:
    """The files of many sites in a folder, made as points come."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, which need not be there."""
        self.folder = folder
        self._open: dict[str, PointsFile] = {}

    def of(self, site: str) -> PointsFile:
        """Return the file of a site."""
        if site not in self._open:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open[site] = PointsFile(self.folder / file_name(site))
        return self._open[site]

    def sites(self) -> list[str]:
        """Return the sites that have points, by name."""
        return sorted(path.stem for path in self.folder.glob(file_name("*")))

    def add(self, site: str, point: Point) -> None:
        """Add one point of a site."""
        self.of(site).add(point)


def read(data: bytes, key: str = "") -> list[Point]:
    """Return the points of some lines, of each the values whose keys match a shell pattern ("": all of them).

    Lines that say what no point may say are skipped.
    """
    found = []
    for line in data.splitlines():
        point = points.read(line)
        if point is not None and key:
            point = replace(point, values={name: it for name, it in point.values.items() if fnmatchcase(name, key)})
        if point is not None and point.values:
            found.append(point)
    return found
