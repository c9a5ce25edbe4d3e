"""A workflow of its own: federated standardisation, then federated averaging."""

import numpy as np

import convoy


async def run(fleet: convoy.Fleet, *, rounds: int = 8, min_sites: int = 1) -> None:
    """Ask for sums, set the scale of every feature, then train on the scaled features, round after round."""
    async for round in fleet.rounds(rounds):  # noqa: A001 - the field's word
        model = dict(round.model)
        if round.number == 1:
            model |= await standardisation(fleet, model, min_sites)
        mean = convoy.Mean(like=model)
        async for update in fleet.ask("train", model, at_least=min_sites):
            mean.add(update)
        await round.commit(mean.result(), metrics=mean.metrics)  # nobody trains the scale: it keeps its bits


async def standardisation(fleet, model, min_sites):
    """Return the mean and the standard deviation of each feature over all sites, from three sums a site.

    The sums go into the model, so that a workflow that is started again in a later round finds them there.
    """
    zeros, each = np.zeros_like(model["mean"]), ("f8", model["mean"].shape)
    total = {"count": np.zeros(1), "sum": zeros, "squares": zeros}
    wanted = {"count": ("f8", (1,)), "sum": each, "squares": each}
    async for update in fleet.ask("statistics", {}, at_least=min_sites, reply=wanted):
        total = {name: total[name] + update.model[name] for name in total}
    mean = total["sum"] / total["count"]
    scale = np.sqrt(np.maximum(total["squares"] / total["count"] - mean**2, 1e-12))
    fleet.log(
        f"{total['count'][0]:.0f} patients in all; standard deviations from {scale.min():.3g} to {scale.max():.3g}"
    )
    return {"mean": mean, "scale": scale}
