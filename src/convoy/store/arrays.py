"""Arrays into a job's blob folder and out of it: one write, and no read at all."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convoy.errors import BadInput, RemoteFault
from convoy.model import arrays as _arrays
from convoy.model import blob
from convoy.model.arrays import Model
from convoy.model.blob import Layout
from convoy.store.blobs import BlobFolder
from convoy.store.disk import draft_of, name_of, write_blob
from convoy.store.spares import SPARE

if TYPE_CHECKING:
    import numpy as np


def save(folder: BlobFolder, holder: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Keep arrays as a blob for a holder and return its digest; what the folder has already is not written again.

    Raises `BadInput` for arrays that cannot be in a blob, and `StorageFull`.
    """
    if isinstance(arrays, Model) and arrays.digest and folder.hold(holder, arrays.digest):
        return arrays.digest
    layout, chunks = _blob(arrays)
    folder.write(holder, layout, chunks)
    return layout.digest


def hand_over(out: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> tuple[str, bytes]:
    """Return the digest of arrays as a blob, and its bytes if they fit into a message.

    A larger one is written into the worker's own folder, which is made if need be, over the file that its node has
    taken last; the node takes it from there, and no bytes are returned.
    Raises `BadInput` for arrays that cannot be in a blob, and `StorageFull`.
    """
    layout, chunks = _blob(arrays)
    if layout.size < blob.SMALL:
        return layout.digest, b"".join((layout.header, *chunks))
    out.mkdir(exist_ok=True)
    path = out / name_of(layout.digest)
    draft = draft_of(path)
    with suppress(FileNotFoundError):
        (out / SPARE).rename(draft)
    write_blob(draft, layout, chunks)
    draft.replace(path)
    return layout.digest, b""


def _blob(arrays: Mapping[str, np.ndarray[Any, Any]]) -> tuple[Layout, Iterator[memoryview]]:
    packed, layout = laid_out(arrays)
    return layout, (_arrays.raw(packed[tensor.name]) for tensor in layout.tensors)


def laid_out(
    arrays: Mapping[str, np.ndarray[Any, Any]],
) -> tuple[dict[str, np.ndarray[Any, Any]], Layout]:
    """Return arrays as they are in a blob, and its layout. Raises `BadInput` for arrays that cannot be in one."""
    packed = {name: _arrays.packed(array) for name, array in arrays.items()}
    return packed, blob.build(_arrays.describe(packed))


def load(folder: BlobFolder, digest: str) -> Model:
    """Return a blob's arrays, mapped. Raises `NotFound`."""
    found = folder.open(digest)
    return _arrays.views(found.layout, found.data)


def read_file(path: Path) -> Model:
    """Return the arrays of a safetensors file that anybody wrote, mapped. Raises `BadInput`: what is wrong in it."""
    try:
        return _read(path)
    except OSError as problem:
        raise BadInput(f"{path.name} cannot be read", why=str(problem)) from problem
    except RemoteFault as problem:
        raise BadInput(f"{path.name} is not a safetensors file", why=str(problem)) from problem


def _read(path: Path) -> Model:
    with path.open("rb") as file:
        length = file.read(8)
        header = length + file.read(blob.header_length(length) - 8)
        tensors = blob.parse_foreign(header)
        size, end = path.stat().st_size, max((tensor.end for tensor in tensors), default=len(header))
        if end != size:
            raise RemoteFault(f"it has {size} bytes, its header wants {end}")
        return _arrays.views(tensors, mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ))
