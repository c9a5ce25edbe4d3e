"""What local steps amount to in FedNova: the sum of the factors with which each gradient enters a site's change."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

METRIC: Final = "effective_steps"  # by which a site says what its steps amount to


def with_momentum(steps: int, momentum: float) -> float:
    """Return ||a||_1 of `steps` steps of gradient descent, with a momentum from 0 up and below 1.

    It is (steps - r (1 - r^steps) / (1 - r)) / (1 - r) with the momentum r (Wang et al., 2020, section 4), and the
    number of steps without one.
    """
    rest = 1 - momentum
    return max((steps - momentum * (1 - momentum**steps) / rest) / rest, 1.0)  # one step is 1, but for its rounding


def proximal(steps: int, pulled: float) -> float:
    """Return ||a||_1 of `steps` steps whose start pulls with `pulled`, the learning rate times mu, above 0 and up to 1.

    It is (1 - (1 - pulled)^steps) / pulled (Wang et al., 2020, section 4).
    """
    return max(-math.expm1(steps * math.log1p(-pulled)) / pulled, 1.0) if pulled < 1 else 1.0


def stretch(amounts: Sequence[float], shares: Sequence[float], most: float) -> float:
    """Return how many times the weighted mean of normalised changes is as long as that of FedNova.

    The model moves by tau sum_i p_i d_i / a_i, where the p_i are the shares, d_i the change of site i, a_i above 0 what
    its steps amount to, and tau = sum_i p_i a_i. A mean with the weights p_i / a_i gives sum_i p_i d_i / a_i divided by
    sum_i p_i / a_i; so the factor is tau sum_i p_i / a_i. In tau no a_i counts for more than `most` times their lower
    median: one site's claim moves the model only so far. `most` 0: no bound. With equal amounts it is exactly 1.
    """
    if min(amounts) == max(amounts):
        return 1.0
    limit = most * statistics.median_low(amounts) if most else math.inf
    total = math.fsum(shares)
    tau = math.fsum(share * min(it, limit) for share, it in zip(shares, amounts, strict=True)) / total
    return tau * math.fsum(share / it for share, it in zip(shares, amounts, strict=True)) / total
