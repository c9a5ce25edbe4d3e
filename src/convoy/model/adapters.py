"""Adapters of LoRA by name: the pair of matrices of each layer, and what the mean of pairs lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.errors import BadInput

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

DOWN: Final = ".lora_A.weight"  # (rank, inputs)
UP: Final = ".lora_B.weight"  # (outputs, rank)
RESIDUAL: Final = ".lora_residual.weight"  # (outputs, inputs): is added to B A


def layers(names: Sequence[str]) -> list[str]:
    """Return the layers that have a pair of matrices among these names."""
    present = set(names)
    return [
        name.removesuffix(DOWN) for name in names if name.endswith(DOWN) and name.removesuffix(DOWN) + UP in present
    ]


def with_residuals(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return adapters with a residual of zeros for each layer that has none.

    Raises `BadInput` if no layer has a pair of matrices, or one of them is no matrix.
    """
    found = dict(arrays)
    for layer in layers(list(arrays)):
        up, down = arrays[layer + UP], arrays[layer + DOWN]
        if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
            raise BadInput(
                f"the adapter of {layer!r} has the shapes {list(up.shape)} and {list(down.shape)}",
                why="the exact mean is that of products of two matrices",
                fix="use adapters of linear layers, or the workflow fedavg",
            )
        found.setdefault(layer + RESIDUAL, np.zeros((up.shape[0], down.shape[1]), up.dtype))
    if len(found) == len(arrays) and not layers(list(arrays)):
        raise BadInput(
            "the model has no adapters of LoRA",
            why=f"there is no pair of names that end with {UP} and {DOWN}",
            fix="let `model:` of job.yaml name a function that returns convoy.torch.lora.arrays()",
        )
    return found


def residual(
    layer: str, models: Sequence[Mapping[str, Array]], weights: Sequence[float], mean: Mapping[str, Array]
) -> Array:
    """Return mean(B_i A_i) - mean(B) mean(A) of one layer, in float64 and the shape (outputs, inputs).

    `weights` are above 0; `mean` holds the mean of the pairs. Singhal et al.: FedEx-LoRA: Exact Aggregation for
    Federated and Efficient Fine-Tuning of Foundation Models, 2024, section 3. One product is in memory beside the sum.
    """
    total = sum(weights)
    exact = sum(
        (weight / total) * (_wide(model[layer + UP]) @ _wide(model[layer + DOWN]))
        for model, weight in zip(models, weights, strict=True)
    )
    apart: Array = exact - _wide(mean[layer + UP]) @ _wide(mean[layer + DOWN])
    return apart


def _wide(array: Array) -> Array:
    return np.asarray(array, np.float64)
