"""SCAFFOLD: control variates correct what each site's own data pulls to (Karimireddy et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convoy.flows.fleet import Fleet, Round
from convoy.flows.training import Training, Turned, faults, mean_alone
from convoy.model.arrays import Model
from convoy.model.variates import join, split


async def scaffold(fleet: Fleet, *, server_lr: float = 1.0, **training: Any) -> None:
    """Train for `rounds` rounds; trainers use `convoy.Scaffold(task)`, which keeps each site's variate at that site.

    `server_lr`: how far the model moves towards the mean. The others are those of `Training`.

    Karimireddy et al.: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning, 2020, algorithm 1, with
    option II for the variates; means are weighted as in FedAvg. The server's variate c is the workflow's state, and
    goes to the sites with the model.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        variate = dict(round.state) or {name: np.zeros_like(array) for name, array in _floats(round.model).items()}
        sent = Model(join(round.model, variate))
        part = len(await fleet.sites())
        mean = await plan.mean(fleet, sent)
        model, moved = split(mean.result())
        share = min(len(mean) / max(part, 1), 1.0)  # |S| / N
        return Turned(
            {name: _towards(array, model[name], server_lr) for name, array in round.model.items()},
            mean.metrics,
            {name: _towards(array, moved[name], share) for name, array in variate.items()},
        )

    await plan.run(fleet, turn)


def _floats(model: Mapping[str, Any]) -> dict[str, Any]:
    return {name: array for name, array in model.items() if array.dtype.kind not in "iub"}


def _towards(array: Any, goal: Any, share: float) -> Any:
    """Return `array + share (goal - array)`; with a share of 1, and for integers, the goal itself."""
    if share == 1 or array.dtype.kind in "iub":
        return goal
    return (array + share * (goal - array)).astype(array.dtype)


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found = faults(given) | mean_alone(given, "the server's variate is the mean of the sites' own")
    if not 0 < given.get("server_lr", 1) <= 2:
        found["server_lr"] = "wanted a number above 0 and up to 2"
    return found
