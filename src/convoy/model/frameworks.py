"""The one door for torch, jax and tensorflow: tensors in, numpy arrays out, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    The order is that of the mapping or the list. Raises `BadInput`, with the name of what cannot travel, and for two
    keys that are the same text.
    """
    if isinstance(anything, Mapping):
        arrays = {str(name): _array(str(name), value) for name, value in anything.items()}
        if len(arrays) != len(anything):
            raise _same_name(anything)
        return arrays
    if callable(getattr(anything, "state_dict", None)):
        return to_arrays(anything.state_dict())
    if isinstance(anything, Sequence) and not isinstance(anything, str | bytes):
        return {str(place): _array(str(place), value) for place, value in enumerate(anything)}
    if anything is None or (isinstance(anything, Iterable) and not hasattr(anything, "__array__")):
        raise BadInput(
            f"{'None' if anything is None else f'a {type(anything).__name__}'} is not arrays",
            why="wanted a mapping of names to arrays, a list of arrays, or one array",
            fix="return them: {'w': array}" if anything is None else "give a mapping: dict(…), or a list: list(…)",
        )
    return {"0": _array("0", anything)}


def _same_name(anything: Mapping[Any, Any]) -> BadInput:
    """Return the error for keys that are the same text, such as 1 and "1"."""
    seen: dict[str, Any] = {}
    for key in anything:
        if str(key) in seen:
            why = f"the keys {seen[str(key)]!r} and {key!r} are the same text, and names of tensors are text"
            return BadInput(f"two tensors are called {str(key)!r}", why=why, fix="give each of them a name of its own")
        seen[str(key)] = key
    return BadInput("the mapping of names to arrays changed while it was read")


def _array(name: str, value: Any) -> Array:
    if type(value) is np.ndarray and _travels(value.dtype):
        return value
    if type(value).__module__.partition(".")[0] == "torch" or hasattr(value, "detach"):
        return _from_torch(name, value)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise BadInput(
            f"tensor {name!r} has masked values and cannot travel",
            why="a model has no masks: the values behind it would be used",
            fix="fill them: .filled(0)",
        )
    if isinstance(value, np.ndarray | np.generic | int | float | bool) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if _travels(array.dtype):
            return array
        if isinstance(value, int):
            raise BadInput(
                f"tensor {name!r} is an integer of {value.bit_length()} bits and cannot travel",
                why="wanted one from -2^63 to 2^64 - 1",
                fix="make a float of it, or split it into an array of smaller ones",
            )
        raise BadInput(
            f"tensor {name!r} has the dtype {array.dtype} and cannot travel",
            why=f"a model's are {', '.join(KINDS)}",
            fix=_CONVERT.get(array.dtype.kind, "convert it with .astype() first"),
        )
    raise BadInput(f"{name!r} is a {type(value).__name__}, not an array", fix=_instead(name, value))


_CONVERT: Final = {  # by numpy's kind of dtype
    "c": "convert it with .astype() first, or split it: .real, .imag",
    "O": "hand over an array of numbers for each part of it, each with a name of its own",
    "V": "hand over each of its fields as an array with a name of its own",
}


def _instead(name: str, value: Any) -> str:
    """Return what to hand over instead of what is not an array."""
    if isinstance(value, Mapping):
        return f"hand over one flat mapping, with names such as {f'{name}.{next(iter(value), 0)}'!r}"
    if isinstance(value, list | tuple):
        if _is_numbers(value):
            return f"make an array of it: numpy.asarray({name})" if name.isidentifier() else "use numpy.asarray()"
        return f"hand over each of its items with a name of its own, such as {f'{name}.0'!r}"
    if callable(getattr(value, "toarray", None)):  # scipy's sparse matrices
        return "hand over its .toarray()"
    return "leave it out of what you hand to Convoy"


def _is_numbers(values: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether numpy makes an array of numbers from a list, nested or not."""
    try:
        return np.asarray(values).dtype.kind in "biuf"
    except (ValueError, TypeError):  # lists of different lengths
        return False


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
