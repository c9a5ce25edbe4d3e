"""FedAsync: each answer moves the model as it arrives, and a stale one moves it less (Xie et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from convoy.flows import staleness as staleness_
from convoy.flows.fleet import Fleet, Round
from convoy.flows.parameters import FROM_0, Range
from convoy.flows.training import Training, Turned
from convoy.model.arrays import Model
from convoy.model.mean import Mean
from convoy.model.update import Update

RANGES: Final[Mapping[str, Range]] = {
    "alpha": Range("a number above 0 and up to 1", lambda value: 0 < value <= 1),
    "mu": FROM_0,
    **staleness_.RANGES,
}


async def fedasync(
    fleet: Fleet,
    *,
    alpha: float = 0.6,
    staleness: str = "polynomial",
    a: float = 0.5,
    b: float = 4.0,
    mu: float = 0.0,
    **training: Any,
) -> None:
    """Commit a round for each answer as it arrives; the site that has answered is asked again at once.

    `alpha`: how far the model moves towards an answer to the newest model; `staleness`, `a`, `b`: how much one to an
    older model counts, as in `fedbuff`. So `rounds` counts answers, and weights have no say; weight 0 changes nothing.
    `mu`: the strength of the proximal term of `convoy.Proximal(task)`, which trainers then have to use. The others are
    those of `Training`; `min_sites`, `sample`, `max_share` and `max_norm_ratio` have no meaning. Integers are the
    answer's own.

    Equation: w' = (1 - alpha s) w + alpha s w_k
        s = 1, or (1 + t)^-a, or 1 up to t = b and then 1 / (a (t - b) + 1); t: how many rounds old the model was that
        site k began from

    Use it: where sites are unlike in speed, and their data are alike: each answer moves the model towards one site. The
    order in which answers arrive decides the model, so two runs differ; within a run a restart repeats the order.

    Leaves the site: the trained model, the answer's weight and its metrics.

    Paper: Xie, Koyejo, Gupta: Asynchronous Federated Optimization, 2019, algorithm 1, and section 5.2 for s; in its
    experiments alpha is 0.6, and a is 0.5 with `polynomial` and 10 with `hinge`, where b is 4.
    """
    plan = Training(**training)
    stream = fleet.stream("train", settings={"mu": float(mu)}, helper="Proximal" if mu else "", **plan.asking)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = Mean(like=round.model, max_share=1.0, max_norm_ratio=0.0)
        async for update in stream.take(1, round.model):
            share = alpha * staleness_.share(staleness, update.staleness, a, b)
            mean.add(_mixed(update, round.model, share))
        return Turned(mean.result(), mean.metrics)

    await plan.run(fleet, turn)


def _mixed(update: Update, model: Mapping[str, Any], share: float) -> Update:
    """Return an update whose floats are (1 - share) of the model and a share of its own."""
    mixed = {
        name: array if array.dtype.kind in "iub" else ((1 - share) * model[name] + share * array).astype(array.dtype)
        for name, array in update.model.items()
    }
    return replace(update, model=Model(mixed))
