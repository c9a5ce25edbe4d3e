"""Trees that sites grow by themselves and the server unites: XGBoost by bagging or in turn, and random forests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convoy.errors import Refused, by_reason
from convoy.flows import boosting
from convoy.flows.fleet import Fleet, NotEnough, Round
from convoy.flows.parameters import Range
from convoy.flows.training import Training, Turned
from convoy.model import bounds, trees
from convoy.model.mean import Mean
from convoy.model.trees import Trees
from convoy.model.update import Update

RANGES: Final[Mapping[str, Range]] = {
    **boosting.RANGES,
    "trees_per_site": Range("a whole number from 1 to 10000", lambda value: 1 <= value <= 10_000),
}
MAX_FOREST_NODES: Final = 2**20  # of one site's part of a random forest: 17 MB, and 4 MB for each class


async def xgboost_bagging(
    fleet: Fleet,
    *,
    features: int,
    objective: str = "binary:logistic",
    classes: int = 0,
    trees_per_site: int = 1,
    cyclic: bool = False,
    learning_rate: float = 0.3,
    max_depth: int = 6,
    max_bin: int = 256,
    reg_lambda: float = 1.0,
    gamma: float = 0.0,
    min_child_weight: float = 1.0,
    **training: Any,
) -> None:
    """Have each site grow trees on the model of all, and add them; trainers return `convoy.trees.boost(task, X, y)`.

    In each round a site continues the model by `trees_per_site` rounds of XGBoost on its own rows, and answers with the
    new trees alone. The server adds those of all sites, with their leaves divided by the number of sites: the step is
    the mean of the sites' steps. It checks trees before it adds them; `max_norm` and `max_norm_ratio` bound the L2 norm
    of a site's new leaves; `fold` and `keys` have no meaning. For `features`, `objective` and `classes` see
    `xgboost_histogram`; the others have the meaning that XGBoost gives them, or are those of `Training`.

    `cyclic`: instead, one site grows trees in each round, the sites by name one after the other, with its whole step.
    One that fails is skipped; `sample` and `max_norm_ratio` then have no meaning.

    Equation: F' = F + 1/K sum_k learning_rate T_k, where T_k is what site k grows on its own gradients at F
        or, with `cyclic`: F' = F + learning_rate T_k, where k is the site whose turn it is

    Use it: for tables, with few questions and little traffic, where sites have enough rows and differ little.

    Leaves the site: its new trees, whose thresholds and leaves follow from its own rows; weight and metrics.

    Paper: none; the method is common practice. Friedman: Greedy Function Approximation: A Gradient Boosting Machine,
    2001, algorithm 1, is the step of one site, and the sum over sites is the mean of their base learners.
    """
    parameters = {
        "learning_rate": learning_rate, "max_depth": max_depth, "max_bin": max_bin, "reg_lambda": reg_lambda,
        "gamma": gamma, "min_child_weight": min_child_weight,
    }  # fmt: skip
    local = _boosted(features, objective, classes, trees_per_site, parameters)
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        model = local.begun(round.model)
        if cyclic:
            parts, metrics = await local.next(fleet, plan, model, round.number)
        else:
            parts, metrics = await local.grown(
                fleet, plan, model, at_least=max(plan.min_sites, 1), sample=plan.sample, **plan.waiting
            )
        return Turned(local.united(model, [part.scaled(1 / len(parts)) for part in parts]), metrics)

    await plan.run(fleet, turn)


async def random_forest(
    fleet: Fleet, *, features: int, classes: int = 0, trees_per_site: int = 20, **training: Any
) -> None:
    """Unite the trees that sites grow by themselves; trainers return `convoy.trees.forest(task, fitted)`.

    `features`: columns of X at every site; `classes`: how many there are, with labels from 0; 0 for numbers. In each of
    `rounds`, each site grows `trees_per_site` new trees, seeded by `task.seed`; `rounds: 1` is enough for a forest. All
    trees have the same say, whatever the size of their sites. The others are those of `Training`; `max_norm`,
    `max_norm_ratio`, `fold` and `keys` have no meaning.

    Equation: F(x) = 1/T sum_t tree_t(x), over the trees of all sites

    Use it: for tables, as a first model with one question, without tuning.

    Leaves the site: its trees, whose thresholds and leaves follow from its own rows; weight and metrics.

    Paper: Breiman: Random Forests, 2001, definition 1.1; the trees of one site are grown on its rows alone.
    """
    local = _Local(
        "vote" if classes else "mean", features, classes or 1, trees_per_site, trees.MAX_DEPTH, MAX_FOREST_NODES,
        {"features": features, "classes": classes, "trees": trees_per_site},
    )  # fmt: skip
    plan = Training(**training)

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        boosting.demand_alike(round.model, local.about)
        parts, metrics = await local.grown(
            fleet, plan, {}, at_least=max(plan.min_sites, 1), sample=plan.sample, **plan.waiting
        )
        return Turned(local.united(round.model, parts), metrics)

    await plan.run(fleet, turn)


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with the parameters of `xgboost_bagging`, by name."""
    alone = given.get("cyclic") and given.get("quorum")
    return boosting.wrong(given) | (
        {"quorum": "leave it out: with `cyclic`, one site is asked at a time"} if alone else {}
    )


@dataclass(frozen=True, slots=True)
class _Local:
    """What sites grow by themselves: the kind and limits of their trees, and what they are told."""

    kind: str
    features: int
    outputs: int
    count: int  # trees of one answer
    depth: int
    nodes: int  # of one answer
    settings: Mapping[str, Any]

    @property
    def width(self) -> int:
        """The numbers of a leaf."""
        return self.outputs if self.kind in trees.MEANS else 1

    @property
    def about(self) -> Any:
        """What the model is, as one of its arrays says."""
        return trees.about(self.kind, self.features, self.outputs)

    def begun(self, model: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the model, or in the first round a leaf of 0 for each output."""
        if len(model):
            boosting.demand_alike(model, self.about)
            return model
        return self.united({}, [trees.leaf([0.0], group) for group in range(self.outputs)])

    def united(self, model: Mapping[str, Any], parts: Sequence[Trees]) -> dict[str, Any]:
        """Return the model with further trees."""
        whole = trees.union([*([trees.of(model)] if trees.ABOUT in model else []), *parts], self.width)
        return whole.arrays() | {trees.ABOUT: self.about}

    async def grown(
        self, fleet: Fleet, plan: Training, model: Mapping[str, Any], *, at_least: int, **whom: Any
    ) -> tuple[list[Trees], dict[str, float]]:
        """Return the trees of each site that count, in site order, and the mean of the sites' metrics.

        Raises `NotEnough` with fewer sites than `at_least`.
        """
        answers = fleet.ask(
            "train",
            model,
            reply=trees.slots(self.width),
            reply_limit=self.nodes * (trees.NODE_BYTES + 4 * self.width) + self.count * 8,
            settings=self.settings,
            deadline_s=plan.deadline_s,
            at_least=at_least,
            **whom,
        )
        usable: list[tuple[Update, Trees]] = []
        async for answer in answers:
            part = trees.of(answer.model)
            try:
                self.check(part)
            except Refused as problem:
                answer.leave_out(problem.what)
            else:
                usable.append((answer, part))
        kept, mean = list[Trees](), Mean(like={}, max_share=plan.max_share)
        norms = [float(np.linalg.norm(part.value.astype(np.float64))) for _, part in usable]
        most = min(bounds.farthest(norms, plan.max_norm_ratio), plan.max_norm or np.inf)
        for (answer, part), norm in zip(usable, norms, strict=True):
            if self.kind in trees.SUMS and norm > most:
                answer.leave_out(f"the L2 norm of its leaves is {norm:.6g}; {most:.6g} is the limit")
                continue
            kept.append(part)
            mean.add_metrics(answer)
        if len(kept) < at_least:
            said = "; ".join(by_reason(sorted(answers.left_out.items())))
            raise NotEnough(f"{len(kept)} of the {at_least} answers that are needed count ({said})")
        return kept, mean.metrics

    async def next(
        self, fleet: Fleet, plan: Training, model: Mapping[str, Any], number: int
    ) -> tuple[list[Trees], dict[str, float]]:
        """Return the trees of the site whose turn it is in this round, or of the first after it that does not fail."""
        sites = sorted(await fleet.sites())
        first = (number - 1) % max(len(sites), 1)
        for site in [*sites[first:], *sites[:first]]:
            parts, metrics = await self.grown(fleet, plan, model, at_least=0, sites=[site])
            if parts:
                return parts, metrics
        raise NotEnough(f"none of the {len(sites)} sites grew trees in round {number}")

    def check(self, part: Trees) -> None:
        """Check one site's trees before they are added. Raises `Refused`."""
        if len(part) == 0:
            raise Refused("it has no trees")
        limits = {"count": self.count, "depth": self.depth}
        trees.check(part, kind=self.kind, features=self.features, outputs=self.outputs, **limits)


def _boosted(features: int, objective: str, classes: int, each: int, parameters: Mapping[str, Any]) -> _Local:
    """Return what a site grows by XGBoost."""
    outputs = classes if objective == "multi:softprob" else 1
    count, depth = each * outputs, int(parameters["max_depth"])
    told = {"objective": objective, "features": features, "outputs": outputs, "trees": each, **parameters}
    nodes = min(count * ((2 << depth) - 1), trees.MAX_NODES)
    return _Local(objective, features, outputs, count, depth, nodes, told)
