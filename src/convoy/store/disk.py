"""Bytes onto the disk: all of them or none, in steps, and a full disk as an error of our own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from blake3 import blake3

from convoy.errors import FULL, RemoteFault, StorageFull
from convoy.model import blob
from convoy.model.blob import Layout, Tensor

SUFFIX: Final = ".safetensors"
DRAFT: Final = ".draft"
HEX: Final = frozenset("0123456789abcdef")
STARTED: Final = Path("/proc/sys/kernel/random/boot_id")
STEP: Final = 1 << 20  # bytes hashed or copied at once
Bytes = bytes | bytearray | memoryview


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk into `StorageFull`."""
    try:
        yield
    except OSError as problem:
        if problem.errno in FULL:
            raise StorageFull(f"no room for {path.name}", why=f"{path.parent}: {problem.strerror}") from problem
        raise


def boot() -> str:
    """Return what names the time since this machine was started last; "" where it does not say."""
    try:
        return STARTED.read_text().strip()
    except OSError:
        return ""


def name_of(digest: str) -> str:
    """Return the name of a blob's file. Raises `RemoteFault` for what is no digest."""
    if len(digest) != len(blob.EMPTY) or not HEX.issuperset(digest):
        raise RemoteFault(f"{digest[:80]!r} is not the name of a blob")
    return f"{digest}{SUFFIX}"


def draft_of(path: Path) -> Path:
    """Return a name beside `path` that nobody else uses, for a file that is not whole yet or is about to go."""
    return path.with_suffix(f".{os.urandom(6).hex()}{DRAFT}")


def write_blob(draft: Path, layout: Layout, chunks: Iterable[Bytes]) -> None:
    """Write the file of a blob from the bytes after its header, over a spare file if `draft` is one.

    Raises `StorageFull`; then nothing of it stays.
    """
    with storage(draft):
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if os.fstat(descriptor).st_size > layout.size:
                os.ftruncate(descriptor, layout.size)
            place = write_at(descriptor, layout.header, 0)
            for chunk in chunks:
                place = write_at(descriptor, chunk, place)
            _demand_size(place, layout)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def _demand_size(size: int, layout: Layout) -> None:
    if size != layout.size:
        raise ValueError(f"{size} bytes were given for a blob of {layout.size}")


def write_at(descriptor: int, data: Bytes, place: int) -> int:
    """Write all of the data at a place of the file; return the place after it."""
    view = memoryview(data).cast("B")
    while view:
        done = os.pwrite(descriptor, view, place)
        place += done
        view = view[done:]
    return place


def matches(tensor: Tensor, data: memoryview) -> bool:
    """Whether bytes are those of a tensor's digest."""
    digest = blake3()
    for start in range(0, len(data), STEP):
        digest.update(data[start : start + STEP])
    return digest.hexdigest() == tensor.digest


def demand(tensor: Tensor, data: memoryview) -> None:
    """Raise `RemoteFault` unless bytes are those of a tensor's digest."""
    if not matches(tensor, data):
        raise RemoteFault(f"tensor {tensor.name!r} arrived damaged", why="its bytes are not those of its digest")
