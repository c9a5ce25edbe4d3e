"""Federated averaging: the weighted mean of what the sites trained, round after round (McMahan et al., 2017)."""

from __future__ import annotations

from typing import Any

from convoy.flows.fleet import Fleet, Round
from convoy.flows.training import Training, Turned


async def fedavg(fleet: Fleet, **training: Any) -> None:
    """Train for `rounds` rounds; the parameters are those of `Training`.

    McMahan et al.: Communication-Efficient Learning of Deep Networks from Decentralized Data, 2017, algorithm 1.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = await plan.mean(fleet, round.model)
        return Turned(mean.result(), mean.metrics)

    await plan.run(fleet, turn)
