"""The term that pulls arrays to where they were, by their squared distance: as a gradient, or in a loss."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from convoy.errors import BadInput
from convoy.model.arrays import Model


class ProximalTerm:
    """The term strength/2 ||w - start||^2 over the tensors of a model, without integers and those that stay here."""

    def __init__(self, strength: float, start: Model, private: Collection[str]) -> None:
        """`private`: the tensors that are not pulled."""
        self.strength = strength
        self._start, self._private = start, private

    def gradient(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return strength (w - start) for numpy arrays by name, in their dtypes; 0 for tensors that stay here.

        Raises `BadInput` for an array that the start does not have, and for tensors of torch.
        """
        for name, array in arrays.items():
            if not isinstance(getattr(array, "dtype", None), np.dtype):  # those of numpy and of jax are
                raise BadInput(
                    f"{name!r} is a {type(array).__name__}, and gradients are calculated for arrays of numpy",
                    fix="with torch, add `penalty(net)` to the loss; else hand over numpy arrays",
                )
        return {
            name: array * 0
            if name in self._private
            else (self.strength * (array - named(self._start, name))).astype(array.dtype)
            for name, array in arrays.items()
            if array.dtype.kind not in "iub"
        }

    def penalty(self, module: Any) -> Any:
        """Return strength/2 ||w - start||^2 over the trainable parameters of a torch module; with a strength of 0, 0.

        Raises `BadInput` for a parameter that the start does not have.
        """
        if not self.strength:
            return 0.0
        pairs = [(it, named(self._tensors, name)) for name, it in trainable(module) if name not in self._private]
        return self.strength / 2 * sum(((it - start.to(it)) ** 2).sum() for it, start in pairs)

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        return self._start.torch()


def trainable(module: Any) -> list[tuple[str, Any]]:
    """Return the parameters of a torch module that its training changes, with their names."""
    return [(name, it) for name, it in module.named_parameters() if it.requires_grad]


def named(known: Mapping[str, Any], name: str) -> Any:
    """Return one of the task's arrays. Raises `BadInput` if there is none of that name."""
    if name not in known:
        raise BadInput(
            f"the task's model has no array {name!r}",
            why=f"it has {', '.join(list(known)[:5]) or 'none at all'}",
            fix="use the names of the model that the task brought",
        )
    return known[name]
