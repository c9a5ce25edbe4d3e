"""FedAdam: the server takes the mean of the updates as a gradient, and steps with Adam (Reddi et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convoy.flows.fleet import Fleet, Round
from convoy.flows.training import Training, Turned, faults

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True, slots=True)
class Moments:
    """How slowly the two moments of a difference forget, and the smallest divisor of a step."""

    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 0.001


async def fedadam(
    fleet: Fleet,
    *,
    server_lr: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 0.001,
    **training: Any,
) -> None:
    """Train for `rounds` rounds; the moments are the workflow's state, so that a restarted workflow continues.

    `server_lr`: the step size; `beta1`, `beta2`: the decay of the moments; `tau`: the smallest divisor. The others are
    those of `Training`. Integers and booleans take the mean, as in FedAvg.

    Reddi et al.: Adaptive Federated Optimization, 2021, algorithm 2: without bias correction of the moments.
    """
    plan, moments = Training(**training), Moments(beta1, beta2, tau)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = await plan.mean(fleet, round.model)
        model, state = step(round.model, mean.result(), round.state, server_lr, moments)
        return Turned(model, mean.metrics, state)

    await plan.run(fleet, turn)


def step(model: Arrays, mean: Arrays, state: Arrays, lr: float, how: Moments) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the next model and the next moments, which the state holds as `m/NAME` and `v/NAME`, in float64.

    With d = mean - model: m = b1 m + (1 - b1) d, v = b2 v + (1 - b2) d^2, model + lr m / (sqrt(v) + tau).
    """
    moved: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for name, array in model.items():
        if array.dtype.kind in "iub":
            moved[name] = mean[name]
            continue
        apart = mean[name].astype(np.float64) - array.astype(np.float64)
        first = how.beta1 * state.get(f"m/{name}", np.zeros(())) + (1 - how.beta1) * apart
        second = how.beta2 * state.get(f"v/{name}", np.zeros(())) + (1 - how.beta2) * apart**2
        moved[name] = (array + lr * first / (np.sqrt(second) + how.tau)).astype(array.dtype)
        kept |= {f"m/{name}": first, f"v/{name}": second}
    return moved, kept


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found = faults(given)
    for name in ("server_lr", "tau"):
        if not given.get(name, 1) > 0:
            found[name] = "wanted a number above 0"
    for name in ("beta1", "beta2"):
        if not 0 <= given.get(name, 0) < 1:
            found[name] = "wanted a number from 0 up and below 1"
    return found
