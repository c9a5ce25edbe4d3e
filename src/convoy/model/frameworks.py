"""The one door for torch, jax and tensorflow: tensors in, numpy arrays out, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.errors import BadInput

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


def to_arrays(anything: Any) -> dict[str, Array]:
    """Return numpy arrays by name, sharing memory where the framework allows it.

    Takes a mapping of names to tensors (a state dict), a list of tensors (named "0", "1", …), one tensor (named "0"),
    or a thing with a `state_dict()`; tensors are numpy's, torch's, jax's, tensorflow's, or plain numbers.
    Raises `BadInput`.
    """
    if isinstance(anything, Mapping):
        return {str(name): _array(str(name), value) for name, value in anything.items()}
    if callable(getattr(anything, "state_dict", None)):
        return to_arrays(anything.state_dict())
    if isinstance(anything, Sequence) and not isinstance(anything, str | bytes):
        return {str(place): _array(str(place), value) for place, value in enumerate(anything)}
    return {"0": _array("0", anything)}


def _array(name: str, value: Any) -> Array:
    if type(value).__module__.partition(".")[0] == "torch" or hasattr(value, "detach"):
        return _from_torch(name, value)
    if isinstance(value, np.ndarray | np.generic | int | float | bool) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype.kind not in "OUSMmc":
            return array
        raise BadInput(f"tensor {name!r} has the dtype {array.dtype}", fix="convert it to numbers first")
    raise BadInput(f"{name!r} is a {type(value).__name__}, not an array", fix="leave it out of what you hand to Convoy")


def _from_torch(name: str, value: Any) -> Array:
    if not hasattr(value, "detach"):
        raise BadInput(f"{name!r} is a {type(value).__name__}, not a tensor", fix="leave it out of the state dict")
    tensor = value.detach().cpu().contiguous()
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind == "bfloat16" or kind.startswith("float8"):  # numpy has no name for these
        import ml_dtypes
        import torch

        if not hasattr(ml_dtypes, kind):
            raise BadInput(f"tensor {name!r} has the dtype {kind}", fix="convert it first")
        bits = tensor.view(torch.int16 if tensor.element_size() == 2 else torch.uint8)
        return np.asarray(bits.numpy()).view(getattr(ml_dtypes, kind))
    return np.asarray(tensor.numpy())


def to_torch(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return torch tensors on the CPU with memory of their own."""
    import torch

    return {name: _to_torch(torch, array) for name, array in arrays.items()}


def _to_torch(torch: Any, array: Array) -> Any:
    own = array.copy()
    if own.dtype.isbuiltin == 1:
        return torch.from_numpy(own)
    bits = own.view(np.int16 if own.itemsize == 2 else np.uint8)
    return torch.from_numpy(bits).view(getattr(torch, own.dtype.name))
