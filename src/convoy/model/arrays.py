"""Arrays as blobs hold them: read-only views on a buffer, and the description of arrays that are to become one."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from blake3 import blake3

from convoy.errors import BadInput
from convoy.model.blob import DTYPES, Described, Layout, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    Array = np.ndarray[Any, np.dtype[Any]]

NAMES: Final[Mapping[str, str]] = {theirs: ours for ours, theirs in DTYPES.items()}


def dtype(name: str) -> np.dtype[Any]:
    """Return the numpy dtype of a blob's dtype name, such as `F32` or `BF16`."""
    theirs = DTYPES[name]
    if name == "BF16" or name.startswith("F8"):
        import ml_dtypes  # 5 ms that most models do not need

        foreign: np.dtype[Any] = np.dtype(getattr(ml_dtypes, theirs))
        return foreign
    return np.dtype(theirs)


def kind_of(kind: Any) -> str:
    """Return a blob's dtype name for numpy's (`"f4"`, `"int64"`, `np.uint8`). Raises `BadInput`."""
    if isinstance(kind, str) and kind in NAMES:
        return NAMES[kind]
    try:
        found = NAMES.get(np.dtype(kind).name)
    except TypeError:
        found = None
    if found is None:
        raise BadInput(
            f"{kind!r} is not a dtype that an array of an answer can have", why=f"they are {', '.join(NAMES)}"
        )
    return found


def dtype_name(array: Array) -> str:
    """Return the blob's dtype name of an array, or numpy's where a blob has none for it."""
    return _name(array.dtype)


@lru_cache(maxsize=64)
def _name(kind: np.dtype[Any]) -> str:  # numpy takes 25 µs to make the name of a dtype
    return NAMES.get(kind.name, kind.name)


class Model(Mapping[str, "Array"]):
    """The arrays being federated, by name: immutable, and mapped rather than read where they lie in a file."""

    __slots__ = ("_arrays", "_shapes", "digest", "digests")

    def __init__(
        self, arrays: Mapping[str, Array], digest: str = "", digests: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Take read-only views of the arrays.

        `digest` names the blob that holds exactly them, if there is one; `digests` are those of the tensors' bytes.
        """
        self._arrays: Mapping[str, Array] = {name: _read_only(array) for name, array in arrays.items()}
        self.digest = digest
        self.digests = digests
        self._shapes: Mapping[str, tuple[str, tuple[int, ...]]] | None = None

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def items(self) -> ItemsView[str, Array]:
        """Return the names and their arrays; those of `Mapping` look each of them up."""
        return self._arrays.items()

    def values(self) -> ValuesView[Array]:
        """Return the arrays."""
        return self._arrays.values()

    __eq__ = object.__eq__  # arrays have no one answer to ==
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<Model of {len(self)} tensors, {self.nbytes} bytes>"

    @property
    def nbytes(self) -> int:
        """The size of all arrays in bytes."""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def shapes(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Name -> (dtype, shape)."""
        if self._shapes is None:
            self._shapes = {name: (dtype_name(array), array.shape) for name, array in self._arrays.items()}
        return self._shapes

    def numpy(self) -> dict[str, Array]:
        """Return the arrays copied, so that they may be written to."""
        return {name: array.copy() for name, array in self._arrays.items()}

    def torch(self) -> dict[str, Any]:
        """Return a state dict of torch tensors on the CPU, copied, so that they may be written to."""
        from convoy.model import frameworks  # it knows torch

        return frameworks.to_torch(self._arrays)


NO_ARRAYS: Final = Model({})


def _read_only(array: Array) -> Array:
    if not array.flags.writeable:
        return array
    view = array.view()
    view.setflags(write=False)
    return view


def views(layout: Layout | Iterable[Tensor], buffer: Any, digest: str = "") -> Model:
    """Return a blob's tensors as read-only views on the bytes of its file, nothing copied, in the model's order."""
    tensors = layout.ordered if isinstance(layout, Layout) else layout
    digest = layout.digest if isinstance(layout, Layout) else digest
    digests = {tensor.name: tensor.digest for tensor in tensors if tensor.digest}
    return Model({tensor.name: _view(tensor, buffer) for tensor in tensors}, digest, digests)


def _view(tensor: Tensor, buffer: Any) -> Array:
    kind = dtype(tensor.dtype)
    if tensor.start == tensor.end:
        return np.empty(tensor.shape, kind)
    count = (tensor.end - tensor.start) // kind.itemsize
    return np.frombuffer(buffer, kind, count, tensor.start).reshape(tensor.shape)


def packed(array: Array) -> Array:
    """Return the array in C order and little endian: itself, if it is so already."""
    ordered = array if array.flags.c_contiguous else array.copy(order="C")
    return ordered if ordered.dtype.isnative else ordered.astype(ordered.dtype.newbyteorder("="))


def raw(array: Array) -> memoryview:
    """Return the bytes of a packed array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def describe(arrays: Mapping[str, Array]) -> list[Described]:
    """Return packed arrays as `blob.build` wants them, each with the digest of its bytes.

    Raises `BadInput` for a name that is no text and a dtype that a blob does not have.
    """
    return [_described(name, array) for name, array in arrays.items()]


def _described(name: str, array: Array) -> Described:
    if not isinstance(name, str) or name == "__metadata__":
        raise BadInput(f"a tensor cannot be called {name!r}")
    kind = dtype_name(array)
    if kind not in DTYPES:
        raise BadInput(
            f"tensor {name!r} has the dtype {array.dtype}",
            why=f"a model's are {', '.join(NAMES)}",
            fix="convert it with .astype() first",
        )
    return Described(name, kind, array.shape, array.nbytes, blake3(raw(array)).hexdigest())


def same(one: Mapping[str, Array], other: Mapping[str, Array], name: str) -> bool:
    """Return whether both have the same bits in a tensor, as far as their blobs say so; False where they do not."""
    if not isinstance(one, Model) or not isinstance(other, Model):
        return False
    digest = one.digests.get(name)
    return digest is not None and digest == other.digests.get(name)


def shapes(arrays: Mapping[str, Array]) -> Mapping[str, tuple[str, tuple[int, ...]]]:
    """Return name -> (dtype, shape), as `schema.check_shapes` compares them."""
    if isinstance(arrays, Model):
        return arrays.shapes
    return {name: (dtype_name(array), array.shape) for name, array in arrays.items()}
