"""FedBN: federated averaging in which each site keeps its own layers of batch normalisation (Li et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.flows import keys as patterns
from convoy.flows.fedavg import fedavg
from convoy.flows.fleet import Fleet
from convoy.flows.parameters import Range

RANGES: Final[Mapping[str, Range]] = {
    "norm": Range(
        f'patterns of tensors\' names without !, such as ["*.norm?.*"] or ["{patterns.BATCH_NORM}"]',
        lambda value: not patterns.wrong(value) and not any(key.startswith("!") for key in value),
    )
}


async def fedbn(fleet: Fleet, *, norm: list[str] | None = None, **training: Any) -> None:
    """Train as `fedavg` does, without the layers of batch normalisation: they stay at their sites, and never leave.

    `norm`: patterns of the names of these tensors. null: those of layers that have running statistics, such as
    `running_mean` beside `running_var`, or a usual name, such as `bn1`. The job's log says which they are. It is
    `fedavg` with `keys: ["!@batchnorm"]`; other workflows take these keys too. The other parameters are those of
    `Training`; `keys` may keep further tensors at the sites.

    Equation: w' = sum_k n_k w_k / sum_k n_k, for the tensors outside of these layers
        b_k' = what site k made of its own b_k, for the tensors of these layers

    Use it: where sites see the same things differently: other scanners, lighting, units.

    Leaves the site: the trained tensors outside of these layers, the answer's weight and its metrics.

    Paper: Li, Jiang, Zhang, Kamp, Dou: FedBN: Federated Learning on Non-IID Features via Local Batch Normalization,
    2021, section 4 and algorithm 1.
    """
    stay = [f"!{pattern}" for pattern in norm or [patterns.BATCH_NORM]]
    await fedavg(fleet, **{**training, "keys": [*(training.get("keys") or ()), *stay]})
