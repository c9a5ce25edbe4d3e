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
    scales = [1.0] * len(models)
    if any(folded[name].dtype.itemsize > 4 for name in floats):  # squares of narrower values overflow no float64
        scales = [1 / norm if 0 < norm < math.inf else 1.0 for norm in norms]
    dots, lengths, whole = [0.0] * len(models), [0.0] * len(models), 0.0
    with np.errstate(all="ignore"):
        for name in floats:
            flat = [model[name].reshape(-1) for model in models]
            for part in _stretches(folded[name].size, total):
                start = _wide(base[name], part)
                way = (_wide(folded[name], part) - start) * min(scales)
                whole += float(way.dot(way))
                own = np.empty_like(start)
                for place, scale in enumerate(scales):
                    np.copyto(own, flat[place][part])
                    np.subtract(own, start, out=own)
                    if scale != 1.0:
                        np.multiply(own, scale, out=own)
                    dots[place] += float(own.dot(way))
                    lengths[place] += float(own.dot(own))
    return [_cosine(dot, length, whole) for dot, length in zip(dots, lengths, strict=True)]


def _cosine(dot: float, length: float, whole: float) -> float:
    """Return the cosine of a product of two vectors with these sums of squares, 0 where one of them has no length."""
    below = math.sqrt(length) * math.sqrt(whole) if length > 0 and whole > 0 else 0.0
    return min(max(dot / below, -1.0), 1.0) if 0 < below < math.inf and math.isfinite(dot) else 0.0


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
