"""Large files that nobody uses any more, to be written over: their pages are in memory, and need not be made anew.

A new page of a file costs the kernel several times what writing over an old one does, and more in a virtual machine
that gives freed memory back. So a blob that its last holder has let go of waits here, under no name of a blob, until
one of the same size comes in. Whoever has mapped a blob may go on reading it: such a file is removed, not kept.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from convoy.store.disk import STEP, draft_of

MOST: Final = 16  # files that wait in one folder of blobs, where the disk has room for as many again
SPARES: Final = "spares"
SPARE: Final = "spare"  # the one in the folder that a worker writes into


def worth(size: int) -> bool:
    """Whether files of this size are kept to be written over."""
    return size >= STEP


@dataclass(frozen=True, slots=True)
class Spares:
    """The spare files of one folder of blobs, each named by its size. It keeps no state beside the files."""

    blobs: Path

    @property
    def folder(self) -> Path:
        """Where the files wait."""
        return self.blobs / SPARES

    def give(self, paths: Iterable[Path]) -> None:
        """Keep files that have no name of a blob any more; remove those that somebody reads, or that are too many."""
        for path in paths:
            kept = False
            with suppress(OSError):  # the job may have ended meanwhile
                kept = self._kept(path)
            if not kept:
                path.unlink(missing_ok=True)

    def take(self, size: int, draft: Path) -> bool:
        """Give a spare file of this size the name `draft`, which nobody else uses; return whether there was one."""
        for name in self._names() if worth(size) else ():
            if _size(name) == size:
                with suppress(FileNotFoundError):  # another thread was faster
                    (self.folder / name).rename(draft)
                    return True
        return False

    def clear(self) -> None:
        """Remove all spare files."""
        import shutil  # with libraries for compression, which a trainer does without

        shutil.rmtree(self.folder, ignore_errors=True)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)  # noqa: PTH208 - twice as fast
        except FileNotFoundError:
            return []

    def _kept(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if _free(self.blobs) < MOST * size:
                self.clear()
                return False
            if not (_tells_mapped(self.blobs) and _is_unused(descriptor)):
                return False
        finally:
            os.close(descriptor)
        names = self._names()
        others = [name for name in names if _size(name) != size]
        if len(names) >= MOST and not others:
            return False
        if len(names) >= MOST:
            (self.folder / others[0]).unlink(missing_ok=True)
        self.folder.mkdir(exist_ok=True)
        path.rename(self.folder / f"{size}.{path.stem.rpartition('.')[2]}")
        return True


def free(jobs: Path, reserve: int) -> int:
    """Return how many bytes are free on the disk with the folders of a node's jobs, `jobs`.

    If they are less than `reserve`, the spare files of all jobs are removed first: a job removes its own when it goes
    on, but not while it waits for room.
    """
    found = _free(jobs.parent)
    if found >= reserve:
        return found
    for blobs in jobs.glob("*/blobs"):
        Spares(blobs).clear()
    return _free(jobs.parent)


def _free(folder: Path) -> int:
    import shutil  # as above

    return shutil.disk_usage(folder).free


def _size(name: str) -> int:
    return int(name.partition(".")[0])


def _is_unused(descriptor: int) -> bool:
    """Whether a file has one name, no other descriptor and no mapping, in any process.

    The kernel knows: it grants a lease for writing on no other terms. It would tell of an open while the lease lasts by
    a signal that ends the process; the one asked for here is ignored.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return os.fstat(descriptor).st_nlink == 1


@lru_cache(maxsize=64)
def _tells_mapped(blobs: Path) -> bool:
    """Whether the file system of a folder knows of a file that is mapped and no longer open: tried, since not all do.

    On an overlay the mapping is of the file below it, and some file systems of a network have no leases.
    """
    probe = draft_of(blobs / SPARES)
    probe.write_bytes(b"mapped")
    try:
        descriptor = os.open(probe, os.O_RDWR | os.O_CLOEXEC)
        try:
            unused = _is_unused(descriptor)
            with probe.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
                file.close()
                return unused and not _is_unused(descriptor)
        finally:
            os.close(descriptor)
    finally:
        probe.unlink()
