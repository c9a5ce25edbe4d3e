"""FedBuff: asynchronous averaging, of a buffer of the answers that come first (Nguyen et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from convoy.flows.fleet import Fleet, Round
from convoy.flows.parameters import ABOVE_0, Range
from convoy.flows.training import Training, Turned
from convoy.model.arrays import Model
from convoy.model.mean import Mean
from convoy.model.update import Update

RANGES: Final[Mapping[str, Range]] = {"buffer": Range("1 or more", lambda value: value >= 1), "server_lr": ABOVE_0}


async def fedbuff(fleet: Fleet, *, buffer: int = 2, server_lr: float = 1.0, **training: Any) -> None:
    """Commit a round as soon as `buffer` answers have arrived; a site that has answered is asked again at once.

    An answer to a model that is s rounds old counts as 1 / sqrt(1 + s). `server_lr`: how far the model moves along the
    mean of the differences. The others are those of `Training`; `min_sites` and `sample` have no meaning here.

    Equation: w' = w + server_lr sum_k n_k s_k (w_k - b_k) / sum_k n_k, over the answers in the buffer
        b_k: the model that site k began from; s_k = 1 / sqrt(1 + how many rounds old b_k is)

    Use it: where sites are unlike in speed and nobody should wait for the slowest. The order in which answers arrive
    decides the model, so two runs differ; within a run a restart repeats the order.

    Leaves the site: the trained model, the answer's weight and its metrics.

    Paper: Nguyen et al.: Federated Learning with Buffered Asynchronous Aggregation, 2022, algorithm 1.
    """
    plan = Training(**training)
    stream = fleet.stream("train", **plan.asking)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        mean = Mean(like=round.model, max_share=plan.max_share, max_norm_ratio=plan.max_norm_ratio)
        async for update in stream.take(buffer, round.model):
            mean.add(_brought_up(update, round.model, server_lr))
        return Turned(mean.result(), mean.metrics)

    await plan.run(fleet, turn)


def _brought_up(update: Update, model: Mapping[str, Any], lr: float) -> Update:
    """Return an update as if it had begun from this model: the model, and its difference to the one it began from."""
    share = lr / math.sqrt(1 + update.staleness)
    moved = {
        name: array
        if array.dtype.kind in "iub"
        else (model[name] + share * (array - update.base[name])).astype(array.dtype)
        for name, array in update.model.items()
    }
    return replace(update, model=Model(moved))
