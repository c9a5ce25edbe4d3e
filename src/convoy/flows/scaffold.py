"""SCAFFOLD: control variates correct what each site's own data pulls to (Karimireddy et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from convoy.flows.fleet import Fleet, Round
from convoy.flows.optimisers import towards
from convoy.flows.parameters import Range
from convoy.flows.training import Training, Turned
from convoy.model.arrays import Model
from convoy.model.variates import join, split

RANGES: Final[Mapping[str, Range]] = {"server_lr": Range("a number above 0 and up to 2", lambda value: 0 < value <= 2)}


async def scaffold(fleet: Fleet, *, server_lr: float = 1.0, **training: Any) -> None:
    """Train for `rounds` rounds; trainers use `convoy.Scaffold(task)`, which keeps each site's variate at that site.

    `server_lr`: how far the model moves towards the mean. The others are those of `Training`.

    Equation: y = y - lr (g_k(y) - c_k + c), K local steps from y = w
        c_k' = c_k - c + (w - y) / (K lr)
        w' = w + server_lr mean(y - w);  c' = c + |S| / N mean(c_k' - c_k)

    Use it: where the sites' data differ much in their labels and most sites take part in most rounds. It sends twice
    as much as FedAvg. The server's variate c is the workflow's state, and goes to the sites with the model.

    Leaves the site: the trained model, the change of its variate, the answer's weight and its metrics.

    Paper: Karimireddy et al.: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning, 2020, algorithm 1, with
    option II for the variates; means are weighted as in FedAvg.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        variate = dict(round.state) or {name: np.zeros_like(array) for name, array in _floats(round.model).items()}
        sent = Model(join(round.model, variate))
        part = len(await fleet.sites())
        mean = await plan.mean(fleet, sent, helper="Scaffold")
        model, moved = split(mean.result())
        share = min(len(mean) / max(part, 1), 1.0)  # |S| / N
        return Turned(
            {name: towards(array, model[name], server_lr) for name, array in round.model.items()},
            mean.metrics,
            {name: towards(array, moved[name], share) for name, array in variate.items()},
        )

    await plan.run(fleet, turn)


def _floats(model: Mapping[str, Any]) -> dict[str, Any]:
    return {name: array for name, array in model.items() if array.dtype.kind not in "iub"}
