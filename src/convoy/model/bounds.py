"""How much one answer may count in a round: the share of its weight, and its distance beside the others'."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, TypeVar

N = TypeVar("N", float, Fraction)

SHARE: Final = 0.5  # of three or more answers: none outweighs all the others together
SHARE_OF_TWO: Final = 0.99  # two sites have no majority, and one may well hold most of the data
RATIO: Final = 10.0  # times the median distance: honest sites differ by their data, seldom by so much
WIDE: Final = 900  # powers of two between weights, beyond which the scaled ones are not all exact
FEWEST: Final = 3  # answers that moved away from the model, before one of them can stand out


def normalised(weights: Sequence[float]) -> list[float]:
    """Return finite weights from 0 up, all scaled by one power of two: the largest is in [0.5, 1), or all are 0."""
    top = max(weights, default=0.0)
    exponent = math.frexp(top)[1]
    return [math.ldexp(weight, -exponent) for weight in weights]


def limited(weights: Sequence[float], share: float) -> list[float]:
    """Return finite weights from 0 up, scaled as `normalised` does, with none above its share of their sum.

    Where they lie so far apart that the smallest would be lost by the scaling, the limit is found exactly before it.
    """
    present = [weight for weight in weights if weight > 0]
    if not present or math.frexp(max(present))[1] - math.frexp(min(present))[1] < WIDE:
        return capped(normalised(weights), share)
    exact = _capped([Fraction(weight) for weight in weights], Fraction(share))
    top = max(exact)
    return [float(weight / top) for weight in exact]


def capped(weights: Sequence[float], share: float) -> list[float]:
    """Return the weights with each that is more than `share` of their sum lowered to that share.

    They are the same bits where none is too large. A share below what an equal part would be means an equal part; of
    two weights above 0 each may have `SHARE_OF_TWO`.
    """
    return _capped(weights, share)


def _capped(weights: Sequence[N], share: N) -> list[N]:
    present = sorted((weight for weight in weights if weight > 0), reverse=True)
    if len(present) == 2:
        share = max(share, type(share)(SHARE_OF_TWO))
    for over in range(len(present)):  # so many are too large
        left = 1 - over * share
        rest = present[over:]
        total = math.fsum(rest) if isinstance(share, float) else sum(rest)
        limit = share * total / left if left > 0 else type(share)(0)
        if present[over] <= limit * type(share)(1 + 1e-12):
            return [min(weight, limit) for weight in weights] if over else list(weights)
    return [min(weight, present[-1]) for weight in weights] if present else list(weights)


def farthest(distances: Sequence[float], ratio: float) -> float:
    """Return how far from the model an answer may be: `ratio` times the median of the distances above 0.

    The median is the lower one, so that half of the answers cannot raise it. There is no bound with a ratio of 0, and
    none where fewer than three answers moved.
    """
    moved = [distance for distance in distances if distance > 0]
    if not ratio or len(moved) < FEWEST:
        return math.inf
    return ratio * statistics.median_low(moved)
