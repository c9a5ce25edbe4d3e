"""One job's blobs as files: immutable, named by digest, mapped to be read, received in pieces that may be cut anywhere.

A blob that is still coming in lies in `<digest>.part`. That file only ever grows, in the order of the blob's bytes, so
its length says how far it came; whoever goes on with it checks all of it first, by the digests in its header.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from blake3 import blake3

from convoy.errors import NotFound, RemoteFault, StorageFull
from convoy.model import blob
from convoy.model.blob import Layout, Tensor

SUFFIX: Final = ".safetensors"
PART: Final = ".part"
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # the disk, the quota, the limit of a process
DRAFT: Final = ".draft"
HEX: Final = frozenset("0123456789abcdef")
Bytes = bytes | bytearray | memoryview
STEP: Final = 1 << 20  # bytes hashed or copied at once


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk into `StorageFull`."""
    try:
        yield
    except OSError as problem:
        if problem.errno in FULL:
            raise StorageFull(f"no room for {path.name}", why=f"{path.parent}: {problem.strerror}") from problem
        raise


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that is mapped into memory; it stays readable when its file is deleted."""

    layout: Layout
    data: mmap.mmap

    def tensor(self, tensor: Tensor) -> memoryview:
        """Return the bytes of one tensor, not copied."""
        return memoryview(self.data)[tensor.start : tensor.end]

    def whole(self) -> bytes:
        """Return all bytes of the file."""
        return self.data[:]


@dataclass(frozen=True, slots=True)
class BlobFolder:
    """The folder of one job's blobs. It keeps no state beside the files, so it may be made anew at any time."""

    folder: Path

    def path(self, digest: str) -> Path:
        """Return where a blob lies or would lie. Raises `RemoteFault` for what is no digest."""
        if len(digest) != len(blob.EMPTY) or not HEX.issuperset(digest):
            raise RemoteFault(f"{digest[:80]!r} is not the name of a blob")
        return self.folder / f"{digest}{SUFFIX}"

    def has(self, digest: str) -> bool:
        """Whether the whole blob is here."""
        return self.path(digest).exists()

    def digests(self) -> set[str]:
        """Return the names of all whole blobs."""
        return {name.removesuffix(SUFFIX) for name in os.listdir(self.folder) if name.endswith(SUFFIX)}  # noqa: PTH208 - twice as fast

    def read_header(self, digest: str) -> Layout:
        """Return the layout of a blob. Raises `NotFound` if it is not here, or not whole any more."""
        with self._file(digest) as descriptor:
            return self._layout(digest, descriptor)

    def open(self, digest: str) -> Blob:
        """Map a blob. Raises `NotFound` if it is not here, or not whole any more."""
        with self._file(digest) as descriptor:
            layout = self._layout(digest, descriptor)
            return Blob(layout, mmap.mmap(descriptor, layout.size, prot=mmap.PROT_READ))

    @contextmanager
    def _file(self, digest: str) -> Iterator[int]:
        try:
            descriptor = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as problem:
            raise NotFound(f"blob {digest[:12]} is not here", why=str(self.folder)) from problem
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _layout(self, digest: str, descriptor: int) -> Layout:
        first = os.pread(descriptor, 1 << 14, 0)
        try:
            length = blob.header_length(first)
            if length > len(first):
                first += os.pread(descriptor, length - len(first), len(first))
            layout = blob.parse(first[:length], expect=digest)
        except RemoteFault as problem:
            raise NotFound(
                f"blob {digest[:12]} is damaged", why=f"{self.path(digest)}: its header is wrong"
            ) from problem
        size = os.fstat(descriptor).st_size
        if size != layout.size:
            raise NotFound(f"blob {digest[:12]} is damaged", why=f"it has {size} of {layout.size} bytes")
        return layout

    def verify(self, digest: str) -> bool:
        """Read a blob and say whether it is here with exactly its bytes."""
        try:
            found = self.open(digest)
        except NotFound:
            return False
        return all(_matches(tensor, found.tensor(tensor)) for tensor in found.layout.tensors)

    def write(self, layout: Layout, chunks: Iterable[Bytes]) -> None:
        """Keep a blob whose bytes, after the header, we have made ourselves; nothing happens if it is here already."""
        path = self.path(layout.digest)
        if path.exists():
            return
        draft = self.folder / f"{layout.digest}.{os.urandom(6).hex()}{DRAFT}"
        with _storage(path):
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                place = _write(descriptor, layout.header, 0)
                for chunk in chunks:
                    place = _write(descriptor, chunk, place)
                if place != layout.size:
                    raise ValueError(f"{place} bytes were given for a blob of {layout.size}")
                draft.replace(path)
            finally:
                os.close(descriptor)
                draft.unlink(missing_ok=True)

    def put(self, whole: bytes, *, expect: str) -> Layout:
        """Check and keep a blob that came in one piece. Raises `RemoteFault` if it is another one."""
        layout = blob.parse(whole[: blob.header_length(whole)], expect=expect)
        view = memoryview(whole)
        if len(whole) != layout.size:
            raise RemoteFault(f"blob {expect[:12]} came with {len(whole)} of {layout.size} bytes")
        for tensor in layout.tensors:
            _demand(tensor, view[tensor.start : tensor.end])
        self.write(layout, [view[len(layout.header) :]])
        return layout

    def receive(self, layout: Layout, *, near: Iterable[str] | None = None) -> Receiver:
        """Begin, or go on, to take a blob in pieces.

        Tensors that other blobs of this folder hold are copied, not asked for: all blobs are searched, or only those
        named by `near`. It reads what it reuses, so for large blobs call it off the event loop.
        """
        return Receiver(self, layout, self._holdings(layout, near))

    def _holdings(self, layout: Layout, near: Iterable[str] | None) -> dict[str, memoryview]:
        """Return the verified bytes of those of a blob's tensors that lie in this folder already."""
        held: dict[str, memoryview] = {}
        if layout.size < blob.SMALL:  # it travels in one message
            return held
        wanted = {tensor.digest: tensor for tensor in layout.tensors if tensor.end > tensor.start}
        for digest in self.digests() if near is None else near:
            try:
                other = self.open(digest)
            except NotFound:
                continue
            for tensor in other.layout.tensors:
                if tensor.digest in wanted and tensor.digest not in held:
                    view = other.tensor(tensor)
                    if _matches(tensor, view):
                        held[tensor.digest] = view
        return held

    def delete(self, digest: str) -> None:
        """Remove a blob and what came in of it; nothing happens if there is none."""
        path = self.path(digest)
        path.unlink(missing_ok=True)
        path.with_suffix(PART).unlink(missing_ok=True)

    def detach(self, digests: Iterable[str]) -> list[Path]:
        """Take blobs out of the folder at once; return what `unlink` is to remove, which takes its time.

        Freeing the pages of 100 MB takes 3 to 60 ms: that is for a thread, while the names are free already.
        """
        found = []
        for digest in digests:
            path = self.path(digest)
            away = path.with_suffix(f".{os.urandom(6).hex()}{DRAFT}")
            with suppress(FileNotFoundError):
                path.rename(away)
                found.append(away)
        return found

    def sweep(self, *, parts: bool = True) -> None:
        """Remove what a killed process left half written, and with `parts` also what could be gone on with."""
        for path in self.folder.iterdir():
            if path.suffix == DRAFT or (parts and path.suffix == PART):
                path.unlink(missing_ok=True)


def unlink(paths: Iterable[Path]) -> None:
    """Remove detached files."""
    for path in paths:
        path.unlink(missing_ok=True)


class Receiver:
    """A blob on its way in. Whoever made it closes it; what came in stays for the next one, unless it is wrong."""

    def __init__(self, folder: BlobFolder, layout: Layout, held: dict[str, memoryview]) -> None:
        """Open the part file, check what it holds already, and put in what is held elsewhere."""
        self.layout = layout
        self._path = folder.path(layout.digest)
        self._held = held
        self._next = 0  # the tensor that the next byte belongs to
        self._place = len(layout.header)
        self._hash = blake3()
        with _storage(self._path):
            self._file, self._part = _claim(self._path)
            try:
                self._resume()
                self._fill()
            except BaseException:
                self.close()
                raise

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The byte ranges of the file that are still to come, in order; `feed` wants exactly these bytes."""
        return blob.missing(self.layout, self._held, self._place)

    def feed(self, chunk: Bytes) -> None:
        """Write and check the next bytes of the ranges.

        Raises `RemoteFault` for a tensor with a wrong digest or more bytes than wanted (the part file is then gone) and
        `StorageFull`.
        """
        view = memoryview(chunk)
        while view:
            end = self._span_end()
            taken = view[: end - self._place]
            if not taken:
                self._discard()
                raise RemoteFault(f"more bytes than blob {self.layout.digest[:12]} has came in")
            with _storage(self._path):
                _write(self._file, taken, self._place)
            self._check(taken)
            with _storage(self._path):
                self._fill()
            view = view[len(taken) :]

    def finish(self) -> None:
        """Give the blob its name. Raises `RemoteFault` if bytes are missing; what came in stays."""
        if self._place != self.layout.size:
            raise RemoteFault(
                f"blob {self.layout.digest[:12]} did not come whole", why=f"{self._place} of {self.layout.size} bytes"
            )
        with _storage(self._path):
            self._part.replace(self._path)
        self.close()

    def close(self) -> None:
        """Let go of the file; what came in stays for the next receiver of this blob."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if self._part.suffix == DRAFT:
                self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self.close()

    def _resume(self) -> None:
        """Keep the part file up to its first wrong tensor."""
        size = os.fstat(self._file).st_size
        header = self.layout.header
        if size < len(header) or os.pread(self._file, len(header), 0) != header:
            if size:  # a file that was cut to nothing ext4 writes to the disk when it is closed, all of it
                os.ftruncate(self._file, 0)
            _write(self._file, header, 0)
            return
        with mmap.mmap(self._file, size, prot=mmap.PROT_READ) as data, memoryview(data) as view:
            for tensor in self.layout.tensors:
                with view[tensor.start : tensor.end] as there:
                    whole = tensor.end <= size
                    if whole and not _matches(tensor, there):
                        break
                    if not whole:
                        if tensor.digest not in self._held and len(there):
                            self._hash.update(there)
                            self._place = size
                        break
                self._next += 1
                self._place = tensor.end
        os.ftruncate(self._file, self._place)

    def _span_end(self) -> int:
        """Return where the run of wanted bytes ends that begins at the next byte."""
        end = self._place
        for tensor in self.layout.tensors[self._next :]:
            if tensor.digest in self._held:
                break
            end = tensor.end
        return end

    def _check(self, taken: memoryview) -> None:
        """Hash bytes that have been written, tensor by tensor."""
        while taken:
            tensor = self.layout.tensors[self._next]
            count = min(len(taken), tensor.end - self._place)
            self._hash.update(taken[:count])
            self._place += count
            taken = taken[count:]
            if self._place == tensor.end:
                self._close_tensor(tensor)

    def _close_tensor(self, tensor: Tensor) -> None:
        if self._hash.hexdigest() != tensor.digest:
            self._discard()
            raise RemoteFault(
                f"tensor {tensor.name!r} of blob {self.layout.digest[:12]} arrived damaged",
                why="its bytes are not those of its digest",
            )
        self._hash = blake3()
        self._next += 1

    def _fill(self) -> None:
        """Put in the tensors that follow and are held elsewhere, or have no bytes."""
        tensors = self.layout.tensors
        while self._next < len(tensors) and self._place == tensors[self._next].start:
            tensor = tensors[self._next]
            if tensor.digest in self._held:
                self._place = _write(self._file, self._held[tensor.digest], self._place)
            elif tensor.end > tensor.start:
                return
            self._next += 1


def _claim(path: Path) -> tuple[int, Path]:
    """Open the blob's part file, or a draft of our own if another receiver is at work on it."""
    part = path.with_suffix(PART)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if part.exists() and part.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor, part
    except BlockingIOError:
        pass
    os.close(descriptor)
    draft = path.with_suffix(f".{os.urandom(6).hex()}{DRAFT}")
    return os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), draft


def _matches(tensor: Tensor, data: memoryview) -> bool:
    digest = blake3()
    for start in range(0, len(data), STEP):
        digest.update(data[start : start + STEP])
    return digest.hexdigest() == tensor.digest


def _demand(tensor: Tensor, data: memoryview) -> None:
    if not _matches(tensor, data):
        raise RemoteFault(f"tensor {tensor.name!r} arrived damaged", why="its bytes are not those of its digest")


def _write(descriptor: int, data: Bytes, place: int) -> int:
    """Write all of the data at a place of the file; return the place after it."""
    view = memoryview(data).cast("B")
    while view:
        done = os.pwrite(descriptor, view, place)
        place += done
        view = view[done:]
    return place
