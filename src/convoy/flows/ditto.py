"""Ditto: besides the common model, each site trains one of its own, which is pulled to it (Li et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.flows.fleet import Fleet, Round
from convoy.flows.parameters import FROM_0, Range
from convoy.flows.training import Training, Turned

RANGES: Final[Mapping[str, Range]] = {"lam": FROM_0}


async def ditto(fleet: Fleet, *, lam: float = 0.1, **training: Any) -> None:
    """Train as `fedavg` does; trainers use `convoy.Ditto(task)`, which keeps each site's own model at that site.

    `lam`: lambda, how strongly the personal model is pulled to the common one. With 0 it is that of training at the
    site alone. The common model is that of `fedavg`, to the bit, and is the result. `evaluate` measures what the
    trainer's function measures, such as the personal model: in round n the common model is that of round n, the
    personal one that of round n - 1, as a site's state counts with the commit. The others are those of `Training`.

    Equation: site k lowers F_k(v_k) + lam / 2 ||v_k - w||^2, beginning from the v_k of its last answer
        w' = sum_k n_k w_k / sum_k n_k
        w_k: what site k made of the model w, as in FedAvg

    Use it: where sites are so different that one model serves none of them well, and each has some data of its own.

    Leaves the site: what FedAvg sends: the trained common model, the answer's weight and its metrics. The personal
    model never leaves.

    Paper: Li, Hu, Beirami, Smith: Ditto: Fair and Robust Federated Learning Through Personalization, 2021, algorithm 1.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = await plan.mean(fleet, round.model, settings={"lam": float(lam)}, helper="Ditto")
        return Turned(mean.result(), mean.metrics)

    await plan.run(fleet, turn)
