"""The one door for torch, jax and tensorflow: tensors in, numpy arrays out, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.errors import BadInput

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


KINDS: Final = (
    *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
    *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"),
)


def to_arrays(anything: Any) -> dict[str, Array]:
    """Return numpy arrays by name, sharing memory where the framework allows it.

    Takes a mapping of names to tensors (a state dict), a list of tensors (named "0", "1", …), one tensor (named "0"),
    or a thing with a `state_dict()`; tensors are numpy's, torch's, jax's, tensorflow's, or plain numbers.
    The order is that of the mapping or the list. Raises `BadInput`, with the name of what cannot travel.
    """
    if isinstance(anything, Mapping):
        return {str(name): _array(str(name), value) for name, value in anything.items()}
    if callable(getattr(anything, "state_dict", None)):
        return to_arrays(anything.state_dict())
    if isinstance(anything, Sequence) and not isinstance(anything, str | bytes):
        return {str(place): _array(str(place), value) for place, value in enumerate(anything)}
    return {"0": _array("0", anything)}


def _array(name: str, value: Any) -> Array:
    if type(value) is np.ndarray and _travels(value.dtype):
        return value
    if type(value).__module__.partition(".")[0] == "torch" or hasattr(value, "detach"):
        return _from_torch(name, value)
    if isinstance(value, np.ndarray | np.generic | int | float | bool) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if _travels(array.dtype):
            return array
        raise BadInput(
            f"tensor {name!r} has the dtype {array.dtype} and cannot travel",
            why=f"a model's are {', '.join(KINDS)}",
            fix="convert it with .astype() first" + (", or split it: .real, .imag" if array.dtype.kind == "c" else ""),
        )
    raise BadInput(f"{name!r} is a {type(value).__name__}, not an array", fix="leave it out of what you hand to Convoy")


@lru_cache(maxsize=64)
def _travels(kind: np.dtype[Any]) -> bool:  # numpy takes 25 µs to make the name of a dtype
    return kind.name in KINDS


def _from_torch(name: str, value: Any) -> Array:
    if not hasattr(value, "detach"):
        raise BadInput(f"{name!r} is a {type(value).__name__}, not a tensor", fix="leave it out of the state dict")
    obstacle = _obstacle(value)
    if obstacle:
        what, fix = obstacle
        raise BadInput(f"tensor {name!r} {what} and cannot travel", why="a model is made of dense numbers", fix=fix)
    try:
        return _bits(value)
    except (RuntimeError, TypeError, ValueError) as problem:  # NotImplementedError is a RuntimeError
        raise BadInput(
            f"tensor {name!r} is a {type(value).__name__} of the dtype {value.dtype} and cannot travel",
            why=str(problem).partition("\n")[0],
            fix="convert it to a plain dense tensor first, or leave it out of what you hand to Convoy",
        ) from problem


def _bits(value: Any) -> Array:
    tensor = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind == "bfloat16" or kind.startswith("float8"):  # numpy has no name for these
        import ml_dtypes
        import torch

        bits = tensor.view(torch.int16 if tensor.element_size() == 2 else torch.uint8)
        return np.asarray(bits.numpy()).view(getattr(ml_dtypes, kind))
    return np.asarray(tensor.numpy())


def _obstacle(tensor: Any) -> tuple[str, str] | None:
    """Return what keeps a torch tensor from being an array, and what to do; None if nothing does."""
    import torch

    kind = str(tensor.dtype).removeprefix("torch.")
    meta = "is on the device 'meta', where it has no values"
    cases = (  # the first that is true: a nested tensor, say, has no layout to ask for
        (torch.nn.parameter.is_lazy, "belongs to a lazy module and has no shape yet", "run the module once before"),
        (lambda it: it.is_meta, meta, "load its values first: module.to_empty(device='cpu')"),
        (lambda it: it.is_nested, "is nested", "hand over its parts: tensor.unbind()"),
        (lambda it: it.is_quantized, f"is quantized ({kind})", "hand over tensor.dequantize() or tensor.int_repr()"),
        (lambda it: it.layout != torch.strided, "is not dense", "hand over tensor.to_dense()"),
        (lambda it: it.is_complex(), f"is complex ({kind})", "hand over torch.view_as_real(tensor)"),
        (lambda _: kind not in KINDS, f"has the dtype {kind}", f"convert it with tensor.to(): {', '.join(KINDS)}"),
    )
    return next(((what, fix) for applies, what, fix in cases if applies(tensor)), None)


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
