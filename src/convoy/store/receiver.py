"""A blob on its way in: its pieces are checked as they come, and it goes on where it broke off."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from blake3 import blake3

from convoy.errors import RemoteFault
from convoy.model import blob
from convoy.model.blob import Layout, Tensor
from convoy.store.disk import DRAFT, STEP, Bytes, draft_of, matches, storage, write_at

PLACE: Final = 8  # bytes of the note's number; what follows is the digest of what came of the tensor it is in
NOTE: Final = PLACE + blake3().digest_size


class Receiver:
    """A blob on its way in. Whoever made it closes it; what came in stays for the next one, unless it is wrong.

    While it comes in, its file has a note behind the blob's last byte: the place of the next byte that is to come, and
    the digest of those before it that are of the same tensor. The bytes from that place on may be of another blob.
    """

    def __init__(self, part: Path, layout: Layout, held: dict[str, memoryview], keep: Callable[[Path], None]) -> None:
        """Open the part file, check what it holds already, and put in what is held elsewhere.

        `keep` gets the file once it is whole.
        """
        self.layout = layout
        self._path = part
        self._held = held
        self._keep = keep
        self._next = 0  # the tensor that the next byte belongs to
        self._place = len(layout.header)
        self._hash = blake3()
        self._noted = 0
        with storage(self._path):
            self._file, self._part = _claim(self._path)
            try:
                self._resume()
                self._fill()
                self._note()
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
            with storage(self._path):
                write_at(self._file, taken, self._place)
            self._check(taken)
            with storage(self._path):
                self._fill()
                if self._place >= self._noted + STEP:
                    self._note()
            view = view[len(taken) :]

    def finish(self) -> None:
        """Keep the blob. Raises `RemoteFault` if bytes are missing; what came in stays."""
        if self._place != self.layout.size:
            raise RemoteFault(
                f"blob {self.layout.digest[:12]} did not come whole", why=f"{self._place} of {self.layout.size} bytes"
            )
        with storage(self._path):
            os.ftruncate(self._file, self.layout.size)
            self._keep(self._part)
        self._noted = self._place
        self.close()

    def close(self) -> None:
        """Let go of the file; what came in stays for the next receiver of this blob."""
        if self._file >= 0:
            if self._noted != self._place:
                with suppress(OSError):  # a full disk: the note before this one holds
                    self._note()
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
        size, of_tensor = self._came()
        header = self.layout.header
        if size < len(header) or os.pread(self._file, len(header), 0) != header:
            write_at(self._file, header, 0)
            return
        with mmap.mmap(self._file, size, prot=mmap.PROT_READ) as data, memoryview(data) as view:
            for tensor in self.layout.tensors:
                with view[tensor.start : tensor.end] as there:
                    whole = tensor.end <= size
                    if whole and not matches(tensor, there):
                        break
                    if not whole:
                        tail = blake3(there)
                        if tensor.digest not in self._held and len(there) and of_tensor in (b"", tail.digest()):
                            self._hash, self._place = tail, size
                        break
                self._next += 1
                self._place = tensor.end

    def _came(self) -> tuple[int, bytes]:
        """Return how far the part file came, and the digest of what came of the tensor that it ends in, if noted."""
        size, whole = os.fstat(self._file).st_size, self.layout.size
        if size <= whole:  # it was killed before its first note, or after its last byte
            return size, b""
        note = os.pread(self._file, NOTE, whole)
        if len(note) < NOTE:
            return 0, b""
        return min(int.from_bytes(note[:PLACE], "big"), whole), note[PLACE:]

    def _note(self) -> None:
        write_at(self._file, self._place.to_bytes(PLACE, "big") + self._hash.digest(), self.layout.size)
        self._noted = self._place

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
                self._place = write_at(self._file, self._held[tensor.digest], self._place)
            elif tensor.end > tensor.start:
                return
            self._next += 1


def _claim(part: Path) -> tuple[int, Path]:
    """Open the part file, or a draft of our own if another receiver is at work on it."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if part.exists() and part.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor, part
    except BlockingIOError:
        pass
    os.close(descriptor)
    draft = draft_of(part)
    return os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), draft
