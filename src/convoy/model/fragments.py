"""The fragments of a model: runs of neighbouring tensors of about equal size, the same at the server and at each site.

Douillard et al.: Streaming DiLoCo with Overlapping Communication, 2025, section 2.2, the sequential pattern.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from convoy.errors import BadInput
from convoy.model.arrays import Model


def divide(model: Mapping[str, Any], count: int) -> list[list[str]]:
    """Return the names of each fragment's tensors, in the order of the model; `count` fragments, or fewer.

    Fewer, where a tensor is larger than a fragment. Raises `BadInput` for more fragments than tensors.
    """
    if count > max(len(model), 1):
        raise BadInput(
            f"the model has {len(model)} tensor{'s' * (len(model) != 1)}, too few for {count} fragments",
            fix=f"wanted `fragments: {max(len(model), 1)}` or fewer",
        )
    total, before = sum(array.nbytes for array in model.values()), 0
    runs: list[list[str]] = [[] for _ in range(count)]
    for name, array in model.items():
        middle = (2 * before + array.nbytes) * count
        runs[min(middle // (2 * total), count - 1) if total else 0].append(name)
        before += array.nbytes
    return [run for run in runs if run]


def turn(number: int, count: int) -> int:
    """Return which of so many fragments is synchronised in a round; rounds are counted from 1, fragments from 0."""
    return (number - 1) % count


def last_turn(fragment: int, number: int, count: int) -> int:
    """Return the last round before round `number` in which a fragment was synchronised, 0 or less if in none."""
    return number - 1 - (number - 2 - fragment) % count


def part(model: Model, names: Collection[str]) -> Model:
    """Return some tensors of a model, in its order."""
    digests = {name: model.digests[name] for name in names if name in model.digests}
    return Model({name: array for name, array in model.items() if name in names}, digests=digests)
