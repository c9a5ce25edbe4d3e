"""FedEx-LoRA: adapters are averaged, and what their mean lacks is added to the base weights (Singhal et al., 2024)."""

from __future__ import annotations

from typing import Any

from convoy.flows.fleet import Fleet, Round
from convoy.flows.training import Training, Turned
from convoy.model import adapters
from convoy.model.arrays import Model


async def fedex_lora(fleet: Fleet, **training: Any) -> None:
    """Train adapters of LoRA for `rounds` rounds; the parameters are those of `Training`.

    The mean of products B_i A_i is not the product of the means of B and A. The model has a residual for each layer,
    which sites add to their base weights, so that what they compute with is the exact mean. Means are weighted as in
    FedAvg. Trainers use `convoy.torch.lora.load`, and reply with `convoy.torch.lora.arrays(net, task.model)`.

    Equation: R' = R + mean(B_i A_i) - mean(B_i) mean(A_i)
        A' = mean(A_i);  B' = mean(B_i);  a site computes with W + R' + B' A'

    Use it: to tune adapters of a large model that every site has, where the plain mean of adapters loses accuracy. A
    residual is as large as its layer's weight, and goes to the sites in each round.

    Leaves the site: its adapters, weight and metrics; the base model stays.

    Paper: Singhal et al.: FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Foundation Models,
    2024, section 3.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        sent = Model(adapters.with_residuals(round.model))
        mean = await plan.mean(fleet, sent)
        models, weights = mean.counted
        made = mean.result()
        for layer in adapters.layers(list(sent)) if models else ():
            before, apart = sent[layer + adapters.RESIDUAL], adapters.residual(layer, models, weights, made)
            made[layer + adapters.RESIDUAL] = (before + apart).astype(before.dtype)
        return Turned(made, mean.metrics)

    await plan.run(fleet, turn)
