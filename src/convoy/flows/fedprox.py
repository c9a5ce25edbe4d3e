"""FedProx: federated averaging whose sites are held near the model that they began from (Li et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.flows.fleet import Fleet, Round
from convoy.flows.parameters import FROM_0, Range
from convoy.flows.training import Training, Turned

RANGES: Final[Mapping[str, Range]] = {"mu": FROM_0}


async def fedprox(fleet: Fleet, *, mu: float = 0.01, **training: Any) -> None:
    """Train as `fedavg` does; trainers add the gradient or the penalty of `convoy.Proximal(task)` to their own.

    `mu`: how strongly sites are held; it goes to them as `task.settings["mu"]`. With 0 it is FedAvg, to the bit; above
    it, a site whose trainer does not use `convoy.Proximal` fails. The others are those of `Training`.

    Equation: site k lowers F_k(v) + mu / 2 ||v - w||^2, beginning from v = w
        w' = sum_k n_k w_k / sum_k n_k

    Use it: where sites take many local steps on unlike data, or unlike numbers of steps, and FedAvg becomes unsteady.

    Leaves the site: what FedAvg sends: the trained model, the answer's weight and its metrics.

    Paper: Li et al.: Federated Optimization in Heterogeneous Networks, 2020, algorithm 2; means are weighted as in
    FedAvg.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = await plan.mean(fleet, round.model, settings={"mu": float(mu)}, helper="Proximal" if mu else "")
        return Turned(mean.result(), mean.metrics)

    await plan.run(fleet, turn)
