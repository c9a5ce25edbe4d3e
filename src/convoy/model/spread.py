"""How updates lie to their fold: the cosine of the angle between what each changes and what all together changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

LOOKED: Final = 1 << 18  # values of a model that are looked at: of a larger one, stretches of each tensor
STRETCH: Final = 1 << 12  # values


def cosines(
    models: Sequence[Mapping[str, Array]],
    norms: Sequence[float],
    base: Mapping[str, Array],
    folded: Mapping[str, Array],
    names: Sequence[str],
) -> list[float]:
    """Return for each model the cosine of the angle between (model - base) and (folded - base), from -1 to 1.

    `norms`: the L2 norm of each (model - base), so that nothing that is as long overflows. `names`: the tensors that
    somebody changed; only those of floats count. Up to 262,144 values of them the cosines are
    exact; of more, they are of stretches of at most 4,096 values that are spread evenly over each tensor. What has no
    length, or one that is not finite, has the cosine 0.
    """
    floats = [name for name in names if folded[name].dtype.kind not in "iub" and folded[name].size]
    total = sum(folded[name].size for name in floats)
    dots, lengths, whole = np.zeros(len(models)), np.zeros(len(models)), 0.0
    scales = [1 / norm if 0 < norm < math.inf else 1.0 for norm in norms]
    with np.errstate(all="ignore"):
        for name in floats:
            for part in _stretches(folded[name].size, total):
                start = _wide(base[name], part)
                way = (_wide(folded[name], part) - start) * min(scales)
                whole += float(way @ way)
                for place, model in enumerate(models):
                    own = (_wide(model[name], part) - start) * scales[place]
                    dots[place] += float(own @ way)
                    lengths[place] += float(own @ own)
        found = dots / np.sqrt(lengths) / math.sqrt(whole) if whole > 0 else np.zeros(len(models))
    return [float(np.clip(it, -1, 1)) if np.isfinite(it) else 0.0 for it in found]


def _wide(array: Array, part: slice) -> Array:
    """Return a stretch of an array's values as float64."""
    return np.asarray(array.reshape(-1)[part], np.float64)


def _stretches(size: int, total: int) -> list[slice]:
    """Return the stretches of a tensor of so many values that are looked at, in a model of so many."""
    if total <= LOOKED:
        return [slice(0, size)]
    length = min(STRETCH, size)
    count = round(LOOKED * size / total / STRETCH)
    if count == 0:  # a small part of the model, which may have very many of them
        count, length = 1, max(LOOKED * size // total, 1)
    starts = np.linspace(0, size - length, count).astype(int) if count > 1 else [(size - length) // 2]
    return [slice(int(start), int(start) + length) for start in starts]
