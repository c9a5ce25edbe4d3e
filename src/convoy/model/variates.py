"""A model and SCAFFOLD's control variate as one set of arrays, as they travel, and apart again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PREFIX: Final = "scaffold/"  # of the names of a variate's arrays


def join(model: Mapping[str, Any], variate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of a model and, under prefixed names, those of a variate."""
    return {**model, **{f"{PREFIX}{name}": array for name, array in variate.items()}}


def split(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of the model, and those of the variate under the model's names."""
    model = {name: array for name, array in arrays.items() if not name.startswith(PREFIX)}
    variate = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
    return model, variate
