"""Adapters of PEFT as a job's model: they alone travel, and each site has the base model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.errors import BadInput, not_installed
from convoy.model import adapters, frameworks
from convoy.torch import modules

try:
    from peft import get_peft_model_state_dict
except ImportError as problem:
    raise not_installed(problem, "peft", extra="peft") from problem

DEFAULT = "default"  # the name that PEFT gives to the first adapter
_OWN = "convoy_own_weight"  # the buffer of a layer that holds its base weight without a residual


def arrays(model: Any, received: Mapping[str, Any] | None = None, *, adapter: str = DEFAULT) -> dict[str, Any]:
    """Return the tensors of an adapter, by the names under which PEFT saves it.

    They share memory with the model, and keep their dtypes. `received`: the task's model, which the workflow
    `fedex_lora` wants: its residuals go back as they came, and so are not sent. Raises `BadInput` for a model without
    that adapter.
    """
    found = {name: tensor.detach() for name, tensor in _adapter(model, adapter).items()}
    return found | {name: array for name, array in (received or {}).items() if name.endswith(adapters.RESIDUAL)}


def load(model: Any, received: Mapping[str, Any], *, adapter: str = DEFAULT) -> None:
    """Copy a task's model into an adapter, in place; its residuals are added to the base weights of their layers.

    With a residual R, whose scale is the adapter's, a layer computes with W + s (R + B A). The base weight is W + s R
    afterwards, and W, the site's own, is kept in a buffer that no state dict has: a layer with a residual takes twice
    the memory. Raises `BadInput` for names, shapes or dtypes that are not the adapter's, before anything is written.
    """
    residuals = {name: array for name, array in received.items() if name.endswith(adapters.RESIDUAL)}
    layers = {name: _layer(model, name, array) for name, array in residuals.items()}
    modules.fill(_adapter(model, adapter), {name: it for name, it in received.items() if name not in residuals}, {})
    for name, layer in layers.items():
        _add(layer, residuals[name], adapter)


def _adapter(model: Any, adapter: str) -> dict[str, Any]:
    model = modules.unwrapped(model)
    known = getattr(model, "peft_config", {})
    if adapter not in known:
        raise BadInput(
            f"this {type(model).__name__} has no adapter {adapter!r}",
            why=f"it has {', '.join(known) or 'none'}",
            fix="make it with peft.get_peft_model(model, LoraConfig(…))",
        )
    tensors = model.state_dict(keep_vars=True)
    found: dict[str, Any] = get_peft_model_state_dict(
        model, tensors, adapter_name=adapter, save_embedding_layers=False
    )  # else PEFT may ask a hub whether the embedding is the base model's
    return found


def _layer(model: Any, name: str, array: Any) -> Any:
    """Return the layer of a residual. Raises `BadInput` if there is none whose weight has its shape."""
    try:
        layer = modules.unwrapped(model).get_submodule(name.removesuffix(adapters.RESIDUAL))
        weight = layer.get_base_layer().weight
    except AttributeError as problem:
        raise BadInput(f"the residual {name!r} of the task's model has no layer here", why=str(problem)) from problem
    wanted = list(weight.shape)[::-1] if _is_transposed(layer) else list(weight.shape)
    if list(array.shape) != wanted:
        raise BadInput(
            f"the residual {name!r} of the task's model has the shape {list(array.shape)}, its layer's is {wanted}",
            fix="use the same base model at all sites",
        )
    return layer


def _is_transposed(layer: Any) -> bool:
    return bool(getattr(layer, "fan_in_fan_out", False))  # of GPT-2's layers, whose weights are (inputs, outputs)


def _add(layer: Any, array: Any, adapter: str) -> None:
    import torch

    weight = layer.get_base_layer().weight
    with torch.no_grad():
        if not hasattr(layer, _OWN):
            layer.register_buffer(_OWN, weight.detach().clone(), persistent=False)
        residual = frameworks.to_torch({"": array})[""].to(weight.device) * layer.scaling[adapter]
        own = getattr(layer, _OWN)
        weight.copy_(own + (residual.T if _is_transposed(layer) else residual).to(own.dtype))
