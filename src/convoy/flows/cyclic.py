"""Cyclic weight transfer: in each round the model goes from site to site, and each trains it (Chang et al., 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.flows.fleet import Fleet, NotEnough, Round
from convoy.flows.parameters import Range
from convoy.flows.training import Training, Turned
from convoy.model.mean import Mean

ORDERS: Final = ("name", "random")
RANGES: Final[Mapping[str, Range]] = {"order": Range("`name` or `random`", lambda value: value in ORDERS)}


async def cyclic(fleet: Fleet, *, order: str = "name", **training: Any) -> None:
    """Train for `rounds` rounds; in each, one site after the other trains the model that the one before it made.

    `order`: `name`, or `random`, which the job's seed draws anew in each round. A site that fails is skipped. `sample`:
    so many sites train in a round, with `name` the first ones. The others are those of `Training`; `deadline` and
    `max_norm` apply to each site's turn, `max_share` bounds the metrics alone, and `max_norm_ratio` has no meaning.
    Models travel by the server.

    Equation: w_1 = train_1(w), w_2 = train_2(w_1), ..., w' = w_K

    Use it: with a few sites whose data are small, where each local training would overfit. A round takes as long as
    all sites together, and the last site has the largest influence.

    Leaves the site: the model that it trained, which the next site sees; the answer's weight and its metrics.

    Paper: Chang et al.: Distributed deep learning networks among institutions for medical imaging, 2018.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        metrics, model, asked, trained = Mean(like={}, max_share=plan.max_share), dict(round.model), set[str](), 0
        while left := sorted({*await fleet.sites()} - asked):
            if plan.sample and trained == plan.sample:
                break
            # A draw depends on the job's seed and on the question, which is another one at each turn.
            drawn = {"sites": left, "sample": 1} if order == "random" else {"sites": left[:1]}
            answers = fleet.ask("train", model, at_least=0, **plan.asking, **drawn)
            mean, came = Mean(like=model, max_share=1.0, max_norm_ratio=0.0), set[str]()
            async for update in answers:  # one; after a restart, of the site that was asked before it
                came.add(update.site)
                mean.add(update)
                metrics.add_metrics(update)
            asked |= (came | answers.left_out.keys()) or {*left}
            if came:
                model = mean.result()
                trained += len(came - mean.left_out.keys())
        if trained < plan.min_sites:
            raise NotEnough(
                f"{trained} of the {plan.min_sites} sites that a round needs trained in round {round.number}"
            )
        return Turned(model, metrics.metrics)

    await plan.run(fleet, turn)
