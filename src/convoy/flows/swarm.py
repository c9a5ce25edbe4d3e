"""Swarm learning: as federated averaging, but the sites fold the updates, in turn (Warnat-Herresthal et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from convoy.errors import by_reason
from convoy.flows.fleet import Fleet, NotEnough, Round
from convoy.flows.training import Training, Turned
from convoy.model import gathered
from convoy.model.arrays import Model
from convoy.model.mean import Mean
from convoy.model.update import Update

KIND: Final = "aggregate"


async def swarm(fleet: Fleet, **training: Any) -> None:
    """Train as `fedavg` does; in each round another site folds the updates, in a function `aggregate(task)`.

    That function returns `convoy.aggregate(task)`, which folds as the server would: the model has the bits of `fedavg`.
    The sites whose updates came take turns by name: in round r the one at place r - 1, counted around. If it fails, or
    is late by the `deadline`, the next one is asked. The parameters are those of `Training`.

    Equation: w' = sum_k n_k w_k / sum_k n_k, calculated at one of the sites k

    Use it: where the server must not do the computation, or is too small for it. It keeps no secret from the server:
    all updates pass through it, readable, and are stored there until the round is committed. The site that folds
    receives the updates of all others, and its result is the round's model: names, shapes, dtypes and finite values are
    checked, and nothing else can be. Its policy must allow a model above 16 MiB to leave (`leave: {arrays: 10Gi}`).

    Leaves the site: what FedAvg sends: the trained model, the answer's weight and its metrics; from the site that folds
    also the fold of all, and which updates it left out and why.

    Paper: Warnat-Herresthal et al.: Swarm Learning for Decentralized and Confidential Clinical Machine Learning, 2021:
    a leader, elected anew in each round, merges parameters. There is no blockchain here: the server counts the turns.
    """
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        updates = [update async for update in plan.trained(fleet, round.model)]
        sent = gathered.join(round.model, [update.model for update in updates])
        settings = {
            "sites": [update.site for update in updates],
            "weights": [update.weight for update in updates],
            "fold": {name: getattr(plan, name) for name in gathered.FOLDING},
        }
        folded = await _folded(fleet, plan, round, sent, settings)
        counted = Mean(like={}, max_share=plan.max_share)
        for update in updates:
            if update.site in folded.value["left_out"]:
                update.leave_out(folded.value["left_out"][update.site])
            else:
                counted.add_metrics(update)
        return Turned(folded.model, counted.metrics)

    await plan.run(fleet, turn)


async def _folded(fleet: Fleet, plan: Training, round: Round, sent: Model, settings: Mapping[str, Any]) -> Update:  # noqa: A002
    """Have one site after the other fold the updates, until one has; return its answer. Raises `NotEnough`."""
    sites, failed = sorted(settings["sites"]), dict[str, str]()
    first = (round.number - 1) % len(sites) if sites else 0
    left = sites[first:] + sites[:first]
    while left:
        there = set(await fleet.sites())
        asked = next((site for site in left if site in there), left[0])
        answers = fleet.ask(
            KIND,
            sent,
            sites=[asked],
            at_least=0,
            deadline_s=plan.deadline_s,
            reply={name: (array.dtype, array.shape) for name, array in round.model.items()},
            settings=settings,
        )
        async for update in answers:  # after a restart, of the site that was asked before it
            if problem := _wrong(update, sites):
                update.leave_out(problem)
                failed[update.site] = problem
                continue
            fleet.log(f"round {round.number}: {update.site} folded the updates of {len(sites)} sites")
            return update
        failed |= {site: f"{KIND}: {reason}" for site, reason in answers.left_out.items()}
        left = [site for site in left if site not in failed]
    said = "; ".join(by_reason(sorted(failed.items())))
    raise NotEnough(f"no site folded the updates of round {round.number} ({said or 'none came'})")


def _wrong(update: Update, sites: Sequence[str]) -> str:
    """Return what is wrong with what a site says of the updates that it folded; empty: nothing is."""
    said = update.value.get("left_out") if isinstance(update.value, Mapping) else None
    if not isinstance(said, Mapping) or not all(isinstance(reason, str) for reason in said.values()):
        return "it does not say which updates it left out: return convoy.aggregate(task), and let values leave the site"
    return "" if said.keys() <= {*sites} else "it left out updates of sites that sent none"


def kinds(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds of questions that it asks."""
    return ("train", KIND, "evaluate") if given.get("evaluate") is True else ("train", KIND)
