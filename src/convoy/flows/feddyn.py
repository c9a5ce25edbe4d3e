"""FedDyn: a regulariser at each site that changes with the rounds, so that all reach one optimum (Acar, 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from convoy.flows.fleet import Fleet, Round
from convoy.flows.parameters import ABOVE_0, Range
from convoy.flows.training import Training, Turned

RANGES: Final[Mapping[str, Range]] = {"alpha": ABOVE_0}


async def feddyn(fleet: Fleet, *, alpha: float = 0.01, **training: Any) -> None:
    """Train for `rounds` rounds; trainers use `convoy.FedDyn(task)`, which keeps each site's gradient at that site.

    `alpha`: the strength of the regulariser. With a smaller one, sites go further in a round, and so does the server:
    h / alpha is the sum of all changes so far, so that there is no limit in which this is FedAvg. h is the workflow's
    state, and is never sent. The others are those of `Training`.

    Equation: site k lowers F_k(v) - <g_k, v> + alpha / 2 ||v - w||^2, beginning from v = w, and ends at w_k
        g_k' = g_k - alpha (w_k - w);  h' = h - alpha |S| / N mean(w_k - w)
        w' = mean(w_k) - h' / alpha

    Use it: where the sites' data differ much in their labels and most sites take part in most rounds. It sends no more
    than FedAvg, and half as much as SCAFFOLD. With few local steps it swings from round to round: raise `alpha`.

    Leaves the site: what FedAvg sends: the trained model, the answer's weight and its metrics.

    Paper: Acar, Zhao, Navarro, Mattina, Whatmough, Saligrama: Federated Learning Based on Dynamic Regularization, 2021,
    algorithm 1; means are weighted as in FedAvg, and h moves by the share of the sites that answered.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        known = len(await fleet.sites())
        mean = await plan.mean(fleet, round.model, settings={"alpha": float(alpha)}, helper="FedDyn")
        made = mean.result()
        share = min((len(mean) - len(mean.left_out)) / max(known, 1), 1.0)  # |P_t| / m
        model, state = step(round.model, made, round.state, alpha, share)
        return Turned(model, mean.metrics, state)

    await plan.run(fleet, turn)


def step(
    model: Mapping[str, Any], mean: Mapping[str, Any], state: Mapping[str, Any], alpha: float, share: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the next model, mean - h / alpha, and the next state: h - alpha share (mean - model) as `h/NAME`.

    h is float64. Integers and booleans take the mean, as in FedAvg.
    """
    moved, after = dict[str, Any](), dict[str, Any]()
    for name, array in model.items():
        if array.dtype.kind in "iub":
            moved[name] = mean[name]
            continue
        apart = mean[name].astype(np.float64) - array.astype(np.float64)
        h = state.get(f"h/{name}", np.zeros(())) - alpha * share * apart
        moved[name] = (mean[name] - h / alpha).astype(array.dtype)
        after[f"h/{name}"] = h
    return moved, after
