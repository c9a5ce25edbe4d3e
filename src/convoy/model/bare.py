"""Arrays in a message that is read at once and kept nowhere: the bytes of a small blob, without a digest of any.

Such messages go between a simulator and its worker processes. Those of one question have the same header, which is
made and parsed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from convoy.errors import RemoteFault
from convoy.model import arrays as _arrays
from convoy.model import blob
from convoy.model.arrays import Model
from convoy.model.blob import Described, Layout, Tensor

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

KEPT: Final = 4  # headers, each of a message of less than `blob.SMALL` bytes: of answers, and of what sites keep


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Return arrays as bytes, below `blob.SMALL` of them; nothing if they are more.

    Raises `BadInput` for arrays that cannot be in a blob.
    """
    if sum(array.nbytes for array in arrays.values()) >= blob.SMALL:
        return b""
    packed = {name: _arrays.packed(array) for name, array in arrays.items()}
    layout = _layout(
        tuple(Described(name, _arrays.dtype_name(it), it.shape, it.nbytes, "") for name, it in packed.items())
    )
    if layout.size >= blob.SMALL:
        return b""
    return b"".join((layout.header, *(_arrays.raw(packed[tensor.name]) for tensor in layout.tensors)))


def unpack(whole: bytes) -> Model:
    """Return the arrays of such bytes, as views. Raises `RemoteFault` if they are not exactly those of some arrays."""
    if len(whole) >= blob.SMALL:
        raise RemoteFault(f"arrays of {len(whole)} bytes came in a message", why=f"wanted less than {blob.SMALL}")
    header = whole[: blob.header_length(whole)]
    tensors = _tensors(header)
    size = max((tensor.end for tensor in tensors), default=len(header))
    if len(whole) != size:
        raise RemoteFault(f"arrays came with {len(whole)} of {size} bytes")
    return _arrays.views(tensors, whole)


@lru_cache(KEPT)
def _layout(described: tuple[Described, ...]) -> Layout:
    return blob.build(described)


@lru_cache(KEPT)
def _tensors(header: bytes) -> tuple[Tensor, ...]:
    return blob.parse_foreign(header)
