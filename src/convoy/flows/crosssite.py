"""Cross-site evaluation: the model of each site is measured at each site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.flows.fleet import Fleet
from convoy.spec import cross_metrics
from convoy.spec.units import duration_s

JOB: Final = "(job)"  # the row of the job's own model; no site may have this name


async def cross_site(fleet: Fleet, *, min_sites: int = 1, deadline: str | float = "") -> None:
    """Train once at each site, and have each site measure each of these models, and the job's own, in one round.

    The metrics of the round are the table: `auc:a@b` is the `auc` of the model of site a, measured at site b; the row
    of the job's own model is `(job)`. `convoy job show` prints a table of each metric; `convoy job fetch` and `convoy
    simulate` draw it as a heat map. What is missing could not be measured; the job's log says why, and has a line for
    each model. The job's model stays as it was. Trainers answer "train" and "evaluate" tasks; a site sees the models of
    the others. `deadline`: of each question.

    Equation: table[a, b] = metrics of the model of site a on the data of site b

    Use it: to learn at which sites the model of another works, and at which it does not, before or after training.

    Leaves the site: the model that it trained, which every other site sees, and the metrics of each model.

    Paper: none; the method is common practice. Roth et al.: NVIDIA FLARE: Federated Learning from Simulation to
    Real-World, 2022, describe a workflow of this name.
    """
    deadline_s = duration_s(deadline) if deadline else 0.0
    async for round in fleet.rounds(1):  # noqa: A001 - the field's word
        models: dict[str, Mapping[str, Any]] = {JOB: round.model}
        async for update in fleet.ask("train", round.model, at_least=min_sites, deadline_s=deadline_s):
            models[update.site] = update.model
        table: dict[str, float] = {}
        for name, model in models.items():
            answers = fleet.ask("evaluate", model, at_least=0, deadline_s=deadline_s)
            row = {update.site: update.metrics async for update in answers}
            table |= {cross_metrics.name(it, name, site): value for site, of in row.items() for it, value in of.items()}
            said = (f"{site} {metric} {it:.4g}" for site, found in row.items() for metric, it in sorted(found.items()))
            fleet.log(f"the model of {name} at: {', '.join(said) or 'no site'}")
            for site, reason in answers.left_out.items():
                fleet.log(f"the model of {name} was not measured at {site}: {reason}")
        await round.commit(round.model, metrics=table)
