"""FedNova: averaging of changes that are divided by the steps behind them (Wang et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from convoy.errors import JobFailed
from convoy.flows.fleet import Fleet, Round
from convoy.flows.optimisers import towards
from convoy.flows.parameters import FROM_0, Range
from convoy.flows.training import Training, Turned
from convoy.model import bounds
from convoy.model.steps import METRIC, stretch
from convoy.model.update import Update

RANGES: Final[Mapping[str, Range]] = {"mu": FROM_0}


async def fednova(fleet: Fleet, *, mu: float = 0.0, **training: Any) -> None:
    """Train as `fedavg` does, where sites make different numbers of steps; trainers use `convoy.FedNova(task)`.

    Where the steps of all amount to the same, it is FedAvg, to the bit. `mu`: the strength of a proximal term, which
    `convoy.FedNova` has; 0: none. The others are those of `Training`: `max_share` bounds the p_k, and `max_norm_ratio`
    how many times farther than the median an update divided by its a_k may be, and how many times the median a_k one
    counts for in tau.

    Equation: w' = w + tau sum_k p_k (w_k - w) / a_k,  tau = sum_k p_k a_k
        p_k: the share of site k's weight; a_k: what its steps amount to, with a momentum r
        (steps - r (1 - r^steps) / (1 - r)) / (1 - r), with a proximal term (1 - (1 - lr mu)^steps) / (lr mu)

    Use it: where sites make different numbers of steps, as with whole epochs on unequal amounts of data. FedAvg then
    finds the optimum of another objective, in which sites with more steps count for more.

    Leaves the site: the trained model, the answer's weight, and its metrics, with a_k as `effective_steps`.

    Paper: Wang, Liu, Liang, Joshi, Poor: Tackling the Objective Inconsistency Problem in Heterogeneous Federated
    Optimization, 2020, section 4.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        answers = plan.trained(fleet, round.model, settings={"mu": float(mu)}, helper="FedNova")
        updates = [update async for update in answers if _says_steps(update)]
        if not updates:
            raise JobFailed(
                f"no answer of round {round.number} says what its steps amount to",
                why="the job's log has the reason of each site",
                fix=f"sites have to let the metric {METRIC!r} leave: `leave: {{metrics: true}}` in policy.yaml",
            )
        mean = plan.folding(round.model)
        amounts = {update.site: update.metrics[METRIC] for update in updates}
        differ = len({*amounts.values()}) > 1
        for update in updates:
            mean.add(update, steps=amounts[update.site] if differ else 1.0)  # with 1.0: the bits of FedAvg
        made = mean.result()
        counted = [update for update in updates if update.site not in mean.left_out and update.weight > 0]
        shares = bounds.limited([update.weight for update in counted], plan.max_share)
        factor = stretch([amounts[update.site] for update in counted], shares, plan.max_norm_ratio) if counted else 1.0
        return Turned({name: towards(it, made[name], factor) for name, it in round.model.items()}, mean.metrics)

    await plan.run(fleet, turn)


def _says_steps(update: Update) -> bool:
    """Return whether an answer says what its steps amount to; leave it out if not."""
    if math.isfinite(amount := update.metrics.get(METRIC, math.nan)) and amount >= 1:
        return True
    update.leave_out(f"its metric {METRIC!r} is {amount:g}, not a number from 1 up, or its policy withholds it")
    return False
