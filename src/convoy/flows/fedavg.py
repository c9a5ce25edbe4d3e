"""Federated averaging: the weighted mean of what the sites trained, round after round (McMahan et al., 2017)."""

from __future__ import annotations

from typing import Any

from convoy.flows.fleet import Fleet, Round
from convoy.flows.training import Training, Turned


async def fedavg(fleet: Fleet, **training: Any) -> None:
    """Train for `rounds` rounds; the next model is the weighted mean of what the sites made of the last one.

    The parameters are those of `Training`.

    Equation: w' = sum_k n_k w_k / sum_k n_k
        w_k: what site k made of the model w; n_k: the weight of its answer, such as its number of examples

    Use it: first, as the baseline. Where the sites' data are much alike it is hard to beat.

    Leaves the site: the trained model, the answer's weight and its metrics.

    Paper: McMahan et al.: Communication-Efficient Learning of Deep Networks from Decentralized Data, 2017, algorithm 1.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = await plan.mean(fleet, round.model)
        return Turned(mean.result(), mean.metrics)

    await plan.run(fleet, turn)
