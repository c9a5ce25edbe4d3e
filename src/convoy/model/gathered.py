"""A model and many updates of it as one set of arrays, as they travel to the site that folds them, and apart again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from convoy.model.arrays import NO_ARRAYS, Model

BASE: Final = "model"
FOLDING: Final = ("fold", "attackers", "max_share", "max_norm_ratio", "clip")  # the parameters that say how


def join(model: Model, updates: Sequence[Model]) -> Model:
    """Return the arrays of the model as `model/NAME` and those of the update at place i as `i/NAME`, none copied."""
    parts = [(BASE, model), *((str(place), update) for place, update in enumerate(updates))]
    return Model(
        {f"{prefix}/{name}": array for prefix, part in parts for name, array in part.items()},
        digests={f"{prefix}/{name}": digest for prefix, part in parts for name, digest in part.digests.items()},
    )


def split(arrays: Model) -> tuple[Model, list[Model]]:
    """Return the model and the updates, in their order."""
    parts: dict[str, dict[str, str]] = {}  # the names of the arrays by those of the parts, and by theirs in them
    for whole in arrays:
        prefix, _, name = whole.partition("/")
        parts.setdefault(prefix, {})[name] = whole
    found = {prefix: _part(arrays, names) for prefix, names in parts.items()}
    base = found.pop(BASE, NO_ARRAYS)
    return base, list(found.values())


def _part(arrays: Model, names: dict[str, str]) -> Model:
    return Model(
        {name: arrays[whole] for name, whole in names.items()},
        digests={name: arrays.digests[whole] for name, whole in names.items() if whole in arrays.digests},
    )
