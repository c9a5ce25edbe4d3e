"""One job's blobs as files: immutable, named by digest, mapped to be read, and held by whoever needs them.

    <digest>.safetensors            what a worker reads; there for as long as somebody holds it
    holds/<holder>~<digest>         a hard link to it for each holder: the file system counts
    holds/<holder>~<digest>.part    what has come so far of a blob that its holder waits for
    spares/<size>.<number>          what was a blob, to be written over by the next one of its size
    boot                            since which start of the machine all of them are known to be whole

A blob never has its name without a holder, and goes with the last one: nobody deletes it by name. A part is filled in
the order of the blob's bytes, and a note at its end says how far it came; whoever goes on with it checks all of it
first, by the digests in its header. One process, the node, changes a folder; workers read it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convoy.errors import NotFound, RemoteFault
from convoy.model import blob
from convoy.model.blob import Layout, Tensor
from convoy.store import handover
from convoy.store.disk import (
    DRAFT,
    SUFFIX,
    Bytes,
    boot,
    demand,
    draft_of,
    matches,
    name_of,
    storage,
    write_blob,
)
from convoy.store.holds import PART, Hold, Holds, unlink
from convoy.store.receiver import Receiver
from convoy.store.spares import Spares

BOOT: Final = "boot"
HANDED: Final = "handed"  # the holder of what a worker elsewhere has handed over, until it is taken


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that is mapped or read into memory; it stays readable when its file is deleted."""

    layout: Layout
    data: mmap.mmap | bytes | bytearray

    def tensor(self, tensor: Tensor) -> memoryview:
        """Return the bytes of one tensor, not copied."""
        return memoryview(self.data)[tensor.start : tensor.end]

    def whole(self) -> bytes:
        """Return all bytes of the file."""
        return bytes(self.data[:])


@dataclass(frozen=True, slots=True)
class BlobFolder:
    """The folder of one job's blobs. It keeps no state beside the files, so it may be made anew at any time."""

    folder: Path

    @property
    def _holds(self) -> Holds:
        return Holds(self.folder)

    @property
    def spares(self) -> Spares:
        """Files that held blobs, to be written over."""
        return Spares(self.folder)

    # ---- reading ---------------------------------------------------------------------------------------------
    def path(self, digest: str) -> Path:
        """Return where a blob lies or would lie. Raises `RemoteFault` for what is no digest."""
        return self.folder / name_of(digest)

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

    def read_small(self, digest: str) -> tuple[Layout, bytes]:
        """Return the layout of a blob, and all of its bytes if it travels in a message. Raises `NotFound`."""
        with self._file(digest) as descriptor:
            layout = self._layout(digest, descriptor)
            return layout, os.pread(descriptor, layout.size, 0) if layout.size < blob.SMALL else b""

    def open(self, digest: str) -> Blob:
        """Map a blob. Raises `NotFound` if it is not here, or not whole any more."""
        with self._file(digest) as descriptor:
            layout = self._layout(digest, descriptor)
            return Blob(layout, mmap.mmap(descriptor, layout.size, prot=mmap.PROT_READ))

    @contextmanager
    def _file(self, digest: str) -> Iterator[int]:
        try:
            descriptor = os.open(f"{self.folder}/{name_of(digest)}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as problem:
            raise NotFound(f"blob {digest[:12]} is not here", why=str(self.folder)) from problem
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _layout(self, digest: str, descriptor: int) -> Layout:
        try:
            layout = handover.read_layout(descriptor, digest)
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
        return all(matches(tensor, found.tensor(tensor)) for tensor in found.layout.tensors)

    # ---- holders ---------------------------------------------------------------------------------------------
    def hold(self, holder: str, digest: str) -> bool:
        """Hold a blob that is here; return whether it is. It stays until each of its holders has let go."""
        with self._holds.alone():
            return self._holds.link(holder, digest)

    def holds(self) -> set[Hold]:
        """Return who holds what, blobs that are still coming in included."""
        return self._holds.all()

    def held(self, holder: str) -> set[str]:
        """Return the digests that one holder holds."""
        return {digest for who, digest in self.holds() if who == holder}

    def release(self, holder: str, *digests: str) -> None:
        """Let go of blobs; the last holder's are removed, or become spare files, with what came in of them."""
        if digests:
            self.spares.give(self.let_go((holder, digest) for digest in digests))

    def let_go(self, holds: Iterable[Hold]) -> list[Path]:
        """Let go of many blobs at once; return the large files, for `spares.give`, which takes its time.

        Freeing the pages of 100 MB takes 3 to 60 ms: that is for a thread, while the names are free already.
        """
        return self._holds.let_go(holds)

    def condemn(self, digest: str) -> None:
        """A blob whose bytes the disk has lost or changed is nobody's any more."""
        unlink(self.let_go(hold for hold in self.holds() if hold[1] == digest))
        self.path(digest).unlink(missing_ok=True)  # one that no link of ours leads to is damaged, too

    def recover(self, needed: Iterable[Hold] = (), stays: Callable[[str, str], bool] = lambda *_: True) -> None:
        """Bring into order what a killed node has left: who needs a blob holds it, and nothing else is here.

        `needed` holds what the node has noted elsewhere; of all other holds only those stay that `stays` names. If the
        machine was started anew in between, every byte of what stays is read, and what is damaged is nobody's any more.
        """
        needed = set(needed)
        self.spares.clear()
        with self._holds.alone():
            for path in [*self.folder.iterdir(), *self._holds.folder.iterdir()]:
                if path.suffix == DRAFT or (path.suffix == PART and path.parent == self.folder):
                    path.unlink()
            for holder, digest in self.holds():
                if not self.has(digest) and Path(self._holds.mark(holder, digest)).exists():
                    os.link(self._holds.mark(holder, digest), self.path(digest))
            for holder, digest in needed:
                self._holds.link(holder, digest)
        unlink(self.let_go(hold for hold in self.holds() if hold not in needed and not stays(*hold)))
        held = {digest for holder, digest in self.holds() if Path(self._holds.mark(holder, digest)).exists()}
        for digest in self.digests() - held:
            self.path(digest).unlink()
        self._check_after_power_cut()

    def _check_after_power_cut(self) -> None:
        """Condemn what is damaged, unless this machine has run since these blobs were checked or made.

        Blobs are not synced, and a large one is written over another one's bytes: a power cut can leave a file with the
        name, the size and the header of a blob, and tensors of another. A process that is killed leaves no such thing.
        """
        note, now = self.folder / BOOT, boot()
        if now and note.exists() and note.read_text() == now:
            return
        for digest in self.digests():
            if not self.verify(digest):
                self.condemn(digest)
        with suppress(OSError):  # a full disk: they are checked once more
            note.write_text(now)

    # ---- bytes in --------------------------------------------------------------------------------------------
    def write(self, holder: str, layout: Layout, chunks: Iterable[Bytes]) -> None:
        """Keep a blob whose bytes, after the header, we have made ourselves."""
        if self.hold(holder, layout.digest):
            return
        path = self.path(layout.digest)
        draft = draft_of(path)
        self.spares.take(layout.size, draft)
        write_blob(draft, layout, chunks)
        with storage(path):
            self._holds.keep(holder, layout.digest, draft)

    def put(self, holder: str, whole: bytes, *, expect: str) -> Layout:
        """Check and keep a blob that came in one piece. Raises `RemoteFault` if it is another one."""
        layout = blob.parse(whole[: blob.header_length(whole)], expect=expect)
        view = memoryview(whole)
        if len(whole) != layout.size:
            raise RemoteFault(f"blob {expect[:12]} came with {len(whole)} of {layout.size} bytes")
        for tensor in layout.tensors:
            demand(tensor, view[tensor.start : tensor.end])
        self.write(holder, layout, [view[len(layout.header) :]])
        return layout

    def receive(self, holder: str, layout: Layout, *, near: Iterable[str] | None = None) -> Receiver:
        """Begin, or go on, to take a blob in pieces.

        Tensors that other blobs of this folder hold are copied, not asked for: all blobs are searched, or only those
        named by `near`. It reads what it reuses, so for large blobs call it off the event loop.
        """
        self.path(layout.digest)
        with self._holds.alone():  # the folder of parts is there
            part = Path(f"{self._holds.mark(holder, layout.digest)}{PART}")
        held = self._holdings(layout, near)
        draft = draft_of(part)
        if not part.exists() and self.spares.take(layout.size, draft):
            with suppress(FileExistsError):  # another receiver has begun
                os.link(draft, part)
            draft.unlink()
        return Receiver(part, layout, held, lambda whole: self._holds.keep(holder, layout.digest, whole))

    def take(
        self, holder: str, out: Path, digest: str, fits: Callable[[Layout, int], None], whole: bytes = b""
    ) -> None:
        """Keep what a worker hands over: the bytes of its message, or what it has written into its folder `out`.

        That file is copied out of the worker's reach and removed. `fits` gets the layout and how many bytes are stored,
        and raises for what the node does not want before anything is kept. A blob that is here already is held. Raises
        `RemoteFault` for anything but a blob, in a plain file if it is in one, and `StorageFull`. For large blobs call
        it off the event loop.
        """
        path = self.path(digest)
        with self._holds.alone():
            here = self._holds.link(holder, digest)
            with suppress(FileNotFoundError):
                os.unlink(self._holds.mark(HANDED, digest))  # noqa: PTH108
        if whole:
            if not here:
                fits(blob.parse(whole[: blob.header_length(whole)], expect=digest), len(whole))
                self.put(holder, whole, expect=digest)
            return
        if not here:
            draft = draft_of(path)
            with storage(path):
                handover.copy(out, digest, draft, fits, self.spares)
                self._holds.keep(holder, digest, draft)
        handover.give_back(out, digest)

    def handed(self, out: Path, digest: str, fits: Callable[[Layout, int], None], whole: bytes = b"") -> Blob:
        """Return what a worker hands over as `take` does, to be read now and kept nowhere.

        A file is read into memory and removed. It raises as `take` does.
        """
        if self.has(digest):  # from a worker elsewhere, or known from before
            found = self.open(digest)
            self.release(HANDED, digest)
        elif whole:
            found = Blob(blob.parse(whole[: blob.header_length(whole)], expect=digest), whole)
        else:
            found = Blob(*handover.read(out, digest, fits))
        handover.give_back(out, digest)
        fits(found.layout, len(found.data))
        if len(found.data) != found.layout.size:
            raise RemoteFault(f"blob {digest[:12]} came with {len(found.data)} of {found.layout.size} bytes")
        return found

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
                    if matches(tensor, view):
                        held[tensor.digest] = view
        return held
