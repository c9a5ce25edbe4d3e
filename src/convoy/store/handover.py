"""What a worker hands over becomes its node's: a plain file of its stated size, copied out of the worker's reach.

The worker may be hostile and may change the file meanwhile. So its file is never mapped, opening it never waits, and
the copy is checked once more. The tensors are not read here: who uses the blob in the end checks every digest.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from convoy.errors import RemoteFault, StorageFull
from convoy.model import blob
from convoy.model.blob import Layout
from convoy.store.disk import STEP, name_of
from convoy.store.spares import SPARE, Spares, worth

FIRST: Final = 1 << 14  # bytes of a file read at first: most headers fit
BLOCK: Final = 512  # bytes, in which the kernel counts what a file has on the disk
CUT: Final = "a blob was cut while it was taken"
CHANGED: Final = "a blob changed while it was taken"
FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
NEW: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def read_layout(descriptor: int, digest: str) -> Layout:
    """Return the layout that a file's header states. Raises `RemoteFault` if it is not that of this blob."""
    first = os.pread(descriptor, FIRST, 0)
    length = blob.header_length(first)
    if length > len(first):
        first += os.pread(descriptor, length - len(first), len(first))
    return blob.parse(first[:length], expect=digest)


def copy(out: Path, digest: str, draft: Path, fits: Callable[[Layout, int], None], spares: Spares) -> None:
    """Copy a blob of the folder `out` to `draft`, in steps, over a spare file if there is one.

    Raises `RemoteFault`; then nothing of it stays.
    """
    with _opened(out, name_of(digest)) as source:
        layout = _checked(source, digest, fits)
        spares.take(layout.size, draft)
        target = os.open(draft, NEW, 0o644)
        try:
            _copy(source, target, layout)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        finally:
            os.close(target)


def read(out: Path, digest: str, fits: Callable[[Layout, int], None]) -> tuple[Layout, bytearray]:
    """Read a blob of the folder `out` into memory. Raises `RemoteFault`."""
    with _opened(out, name_of(digest)) as source:
        layout = _checked(source, digest, fits)
        data, place = bytearray(layout.size), 0
        with memoryview(data) as view:
            while place < layout.size:
                count = os.preadv(source, [view[place : place + STEP]], place)
                if not count:
                    raise RemoteFault(CUT, why=f"{place} of {layout.size} bytes are there")
                place += count
    if not data.startswith(layout.header):
        raise RemoteFault(CHANGED)
    return layout, data


def _checked(source: int, digest: str, fits: Callable[[Layout, int], None]) -> Layout:
    """Return the layout of what a worker has put there, after asking whether the node wants it."""
    status = os.fstat(source)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        what = f"with {status.st_nlink} names" if stat.S_ISREG(status.st_mode) else stat.filemode(status.st_mode)
        raise RemoteFault(f"blob {digest[:12]} is not a plain file", why=f"the worker has handed over one {what}")
    layout = read_layout(source, digest)
    if status.st_size != layout.size:
        raise RemoteFault(f"blob {digest[:12]} has {status.st_size} bytes", why=f"its header wants {layout.size}")
    fits(layout, status.st_blocks * BLOCK)
    return layout


def empty(out: Path) -> None:
    """Make the folder that a worker is to write into, or make it empty."""
    import shutil  # with libraries for compression, which a trainer does without

    if not out.is_absolute():
        raise ValueError(f"{out} is not a worker's folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(exist_ok=True)


def room(free: int) -> Callable[[Layout, int], None]:
    """Return a check that refuses blobs for which `free` bytes are too few: what has holes is a fault of its worker."""

    def fits(layout: Layout, stored: int) -> None:
        if layout.size > free and stored < layout.size:
            raise RemoteFault(
                f"a blob of {layout.size} bytes is handed over that has {stored} on the disk",
                why=f"there is room for {free}",
            )
        if layout.size > free:
            raise StorageFull(f"no room for a blob of {layout.size} bytes", why=f"{free} bytes are free")

    return fits


def size(out: Path, digest: str) -> int:
    """Return the bytes that a blob in the folder of a worker has, 0 if it is not there. Raises `RemoteFault`."""
    with suppress(OSError):
        return os.lstat(out / name_of(digest)).st_size
    return 0


def give_back(out: Path, digest: str) -> None:
    """Take a blob's name from a file in the folder of a worker, which writes its next one over a large file.

    What cannot be removed goes with the folder.
    """
    with suppress(OSError), _folder(out) as folder:
        name = name_of(digest)
        if not worth(os.stat(name, dir_fd=folder, follow_symlinks=False).st_size):
            os.unlink(name, dir_fd=folder)
            return
        with suppress(FileNotFoundError):  # ext4 writes a file to the disk that replaces another
            os.unlink(SPARE, dir_fd=folder)
        os.rename(name, SPARE, src_dir_fd=folder, dst_dir_fd=folder)


def _copy(source: int, target: int, layout: Layout) -> None:
    size, place = layout.size, 0
    shares = size > STEP  # a file system may let both files have the same bytes on the disk
    while place < size:
        count = min(STEP, size - place)
        if shares:
            try:
                done = os.copy_file_range(source, target, count, place, place)
            except OSError:
                shares = False
                continue
        else:
            done = os.pwrite(target, os.pread(source, count, place), place)
        if not done:
            raise RemoteFault(CUT, why=f"{place} of {size} bytes are there")
        place += done
    if os.pread(target, len(layout.header), 0) != layout.header:
        raise RemoteFault(CHANGED)


@contextmanager
def _opened(out: Path, name: str) -> Iterator[int]:
    """Open what a worker has put there; nothing that it can be makes this wait."""
    with _folder(out) as folder:
        try:
            descriptor = os.open(name, FLAGS, dir_fd=folder)
        except FileNotFoundError as problem:
            why = "the worker names it and has not handed it over"
            raise RemoteFault(f"blob {name[:12]} is not here", why=why) from problem
        except OSError as problem:
            why = f"the worker has handed over something else: {problem.strerror}"
            raise RemoteFault(f"blob {name[:12]} is not a plain file", why=why) from problem
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _folder(out: Path) -> Iterator[int]:
    try:
        descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as problem:
        raise RemoteFault("the worker's folder is not there any more", why=str(problem)) from problem
    try:
        yield descriptor
    finally:
        os.close(descriptor)
