"""The tensors of a torch module as a job's model, and a model's arrays back in the module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.model import fits, frameworks

FIX: Final = "let `model:` of job.yaml name a function that returns convoy.torch.arrays() of the same module"


def arrays(module: Any) -> dict[str, Any]:
    """Return the tensors of a module that are federated, by the names of its state dict.

    These are the parameters that train, and the buffers of the state dict, integers included. Parameters that do not
    train (`requires_grad` is False) are left out: they are each site's own. A tied tensor has one name, its first.
    The tensors keep their dtypes and share memory with the module. A wrapper (`DistributedDataParallel`,
    `torch.compile`) leaves no trace in the names.
    """
    return {name: tensor.detach() for name, tensor in _federated(module)[0].items()}


def load(module: Any, model: Mapping[str, Any]) -> None:
    """Copy the arrays of a model, such as `task.model`, into the tensors that `arrays(module)` returns.

    The arrays are numpy's, or torch's as of `task.model.torch()`. The tensors are written in place and on their device:
    an optimiser goes on with the same parameters. Raises `BadInput` for names, shapes or dtypes that are not the
    module's, before anything is written.
    """
    found, other = _federated(module)
    fill(found, model, other)


def fill(tensors: Mapping[str, Any], model: Mapping[str, Any], other: Mapping[str, str]) -> None:
    """Copy arrays, numpy's or torch's, into tensors of the same names, shapes and dtypes, in place.

    `other`: why a name that the module has is not among them. Raises `BadInput` before anything is written.
    """
    import torch

    have = {name: (str(it.dtype).removeprefix("torch."), tuple(it.shape)) for name, it in tensors.items()}
    came = frameworks.to_arrays(model)
    fits.check(have, came, of="this module", fix=FIX, other=other)
    with torch.no_grad():
        for name, tensor in tensors.items():  # one at a time, so that only one tensor is in memory twice
            tensor.copy_(frameworks.to_torch({name: came[name]})[name])


def unwrapped(module: Any) -> Any:
    """Return the module inside wrappers that only change how it runs."""
    import torch

    while True:
        if isinstance(module, torch.nn.parallel.DistributedDataParallel | torch.nn.DataParallel):
            module = module.module
        elif hasattr(module, "_orig_mod"):  # of torch.compile
            module = module._orig_mod  # noqa: SLF001 - torch itself reads it from outside
        else:
            return module


def _federated(module: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors that are federated, and why each other name of the state dict is not."""
    import torch

    found: dict[str, Any] = {}
    other: dict[str, str] = {}
    names: dict[int, str] = {}
    for name, tensor in unwrapped(module).state_dict(keep_vars=True).items():
        if id(tensor) in names:
            other[name] = f"it is tied to {names[id(tensor)]!r}"
        elif isinstance(tensor, torch.nn.Parameter) and not tensor.requires_grad:
            other[name] = "it does not train here (requires_grad is False)"
        else:
            found[name] = tensor
            names[id(tensor)] = name
    return found, other
