"""FedBuff: asynchronous averaging, of a buffer of the answers that come first (Nguyen et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from convoy.flows import staleness as staleness_
from convoy.flows.fleet import Fleet, Round
from convoy.flows.parameters import ABOVE_0, Range
from convoy.flows.training import Training, Turned
from convoy.model.arrays import Model
from convoy.model.update import Update

RANGES: Final[Mapping[str, Range]] = {
    "buffer": Range("1 or more", lambda value: value >= 1),
    "server_lr": ABOVE_0,
    **staleness_.RANGES,
}


async def fedbuff(
    fleet: Fleet,
    *,
    buffer: int = 2,
    server_lr: float = 1.0,
    staleness: str = "polynomial",
    a: float = 0.5,
    b: float = 4.0,
    **training: Any,
) -> None:
    """Commit a round as soon as `buffer` answers have arrived; a site that has answered is asked again at once.

    `server_lr`: how far the model moves along the mean of the differences. `staleness`: how much the difference of an
    answer to a model counts that is s rounds old: `polynomial`, 1 / (1 + s)^a; `hinge`, 1 up to s = b and then
    1 / (a (s - b) + 1); or `constant`, 1. The others are those of `Training`; `min_sites` and `sample` have no meaning.

    Equation: w' = w + server_lr sum_k n_k s_k (w_k - b_k) / sum_k n_k, over the answers in the buffer
        b_k: the model that site k began from; s_k: its share by `staleness`

    Use it: where sites are unlike in speed and nobody should wait for the slowest. The order in which answers arrive
    decides the model, so two runs differ; within a run a restart repeats the order.

    Leaves the site: the trained model, the answer's weight and its metrics.

    Paper: Nguyen et al.: Federated Learning with Buffered Asynchronous Aggregation, 2022, algorithm 1, whose
    experiments have the polynomial function with a = 0.5; `hinge` is that of FedAsync.
    """
    plan = Training(**training)
    stream = fleet.stream("train", **plan.asking)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = plan.folding(round.model)
        async for update in stream.take(buffer, round.model):
            share = server_lr * staleness_.share(staleness, update.staleness, a, b)
            mean.add(_brought_up(update, round.model, share))
        return Turned(mean.result(), mean.metrics)

    await plan.run(fleet, turn)


def _brought_up(update: Update, model: Mapping[str, Any], share: float) -> Update:
    """Return an update as if it had begun from this model: with this share of its difference from where it began."""
    moved = {
        name: array
        if array.dtype.kind in "iub"
        else (model[name] + share * (array - update.base[name])).astype(array.dtype)
        for name, array in update.model.items()
    }
    return replace(update, model=Model(moved))
