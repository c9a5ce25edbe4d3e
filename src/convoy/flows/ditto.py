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

    `lam`: lambda, how strongly the personal model v is pulled to the common model w: each site makes steps on
    F(v) + lam/2 ||v - w||^2. With 0 it is training at that site alone. The common model is that of `fedavg`, to the
    bit, and is the result; personal models never leave their sites. `evaluate` measures what the trainer's function
    measures, such as the personal model. The others are those of `Training`.

    Li, Hu, Beirami, Smith: Ditto: Fair and Robust Federated Learning Through Personalization, 2021, algorithm 1.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = await plan.mean(fleet, round.model, settings={"lam": float(lam)}, helper="Ditto")
        return Turned(mean.result(), mean.metrics)

    await plan.run(fleet, turn)
