"""Gradient boosting by federated histograms: trees as one site with all rows would grow them (Chen, Guestrin, 2016)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convoy.errors import BadInput, JobFailed, by_reason
from convoy.flows.fleet import Answers, Fleet, NotEnough, Round
from convoy.flows.parameters import ABOVE_0, FROM_0, Range
from convoy.flows.training import Training, Turned
from convoy.model import cuts as _cuts
from convoy.model import trees
from convoy.model.mean import Mean
from convoy.model.splits import MAX_LABEL, Growth, Rules

MAX_SUM: Final = 2**60  # of one site in one node: a billion rows with the largest gradient of logistic loss
MAX_TOTAL: Final = 2**62  # of all sites: their sum cannot overflow
MAX_LEVEL: Final = 2**30  # bytes of the sums of one level, from each site: the server has several times as much
MAX_ROWS: Final = 2**40  # of one site: more are not plausible, and counts cannot overflow

RANGES: Final[Mapping[str, Range]] = {
    "features": Range("a whole number from 1 to 65536", lambda value: 1 <= value <= 1 << 16),
    "classes": Range("a whole number from 0 to 1000", lambda value: 0 <= value <= 1000),
    "learning_rate": ABOVE_0,
    "max_depth": Range("a whole number from 1 to 16", lambda value: 1 <= value <= 16),
    "max_bin": Range("a whole number from 2 to 1024", lambda value: 2 <= value <= 1024),
    "reg_lambda": FROM_0,
    "gamma": FROM_0,
    "min_child_weight": FROM_0,
}


async def xgboost_histogram(
    fleet: Fleet,
    *,
    features: int,
    objective: str = "binary:logistic",
    classes: int = 0,
    learning_rate: float = 0.3,
    max_depth: int = 6,
    max_bin: int = 64,
    reg_lambda: float = 1.0,
    gamma: float = 0.0,
    min_child_weight: float = 1.0,
    **training: Any,
) -> None:
    """Grow a tree in each round, for each class; trainers return `convoy.trees.histograms(task, X, y)`.

    `features`: columns of X at every site. `objective`: `binary:logistic` (labels 0 and 1), `reg:squarederror`, or
    `multi:softprob` with `classes` (labels from 0). The other parameters have the meaning that XGBoost gives them, but
    a split that gains no more than `gamma` is not made, even if a later one would gain more. The rest are those of
    `Training`; `max_norm`, `max_norm_ratio`, `fold` and `keys` have no meaning for sums.

    Before the first tree, at most seven questions find the cut points of every column, by counting values in ever
    smaller intervals. Then each level of a tree is one question, at most `max_depth` for a round. The sums are exact:
    given the same rows in all, the trees do not depend on which site holds which. The sites that answer a round's first
    question are asked the others.

    The model's arrays are those of `convoy.trees`; `convoy.trees.save_xgboost` makes a model of XGBoost of them. A job
    may begin with such a model.

    Equation: gain = G_L^2 / (H_L + lambda) + G_R^2 / (H_R + lambda) - G^2 / (H + lambda) > gamma
        leaf = -learning_rate G / (H + lambda), where G and H are sums over the rows of all sites

    Use it: for tables, where trees do better than networks, and where sites differ: it is as good as pooled training.
    A round costs several questions, and more bytes than bagging.

    Leaves the site: counts of its values, y included, by interval; for each open node, feature and bin the sums of the
    gradients and of the hessians, in multiples of 2^-30; weight and metrics.

    Paper: Chen, Guestrin: XGBoost: A Scalable Tree Boosting System, 2016, equations 5 to 7 and algorithms 1 and 3.
    """
    plan, outputs = Training(**training), classes if objective == "multi:softprob" else 1
    about = trees.about(objective, features, outputs)
    asked = _Asked(fleet, plan, {"objective": objective, "features": features, "outputs": outputs})

    async def turn(round: Round) -> Turned:  # noqa: A002 - the field's word
        state, model = dict(round.state), dict(round.model)
        demand_alike(model, about)
        if not state:
            state, base = _begun(await asked.intervals(max_bin), features, max_bin, objective)
        if not model:
            first = trees.union([trees.leaf([base], group) for group in range(outputs)], 1)
            model = first.arrays() | {trees.ABOUT: about}
        rules = Rules(learning_rate, max_depth, reg_lambda, gamma, min_child_weight, int(state["exponent"][0]))
        points = _cuts.unpadded(state["cuts"], state["cut_counts"])
        growth = Growth(outputs, rules)
        metrics = await asked.grown(model, points, growth)
        grown = trees.union([trees.of(model), growth.result()], 1)
        return Turned(grown.arrays() | {trees.ABOUT: about}, metrics, state)

    await plan.run(fleet, turn)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the questions of one job have in common."""

    fleet: Fleet
    plan: Training
    settings: Mapping[str, Any]  # objective, features, outputs

    async def intervals(self, bins: int) -> _cuts.Intervals:
        """Ask for counts until every interval of each column, the labels' included, is light or one value."""
        columns = int(self.settings["features"]) + 1
        shift = _cuts.BITS - _cuts.FIRST
        places = np.arange(columns, dtype=np.int64), np.zeros(columns, np.int64)
        counted, sites = await self.counts(places, shift, 1 << _cuts.FIRST, None)
        found = _cuts.first(counted)
        while shift and (heavy := found.heavy(bins)).any():
            shift -= _cuts.NEXT
            places = found.column[heavy], found.low[heavy]
            counted, sites = await self.counts(places, shift, 1 << _cuts.NEXT, sites)
            found = found.refined(heavy, counted, 1 << shift)
        return found

    async def counts(
        self, places: tuple[Any, Any], shift: int, fan: int, sites: Sequence[str] | None
    ) -> tuple[Any, list[str]]:
        """Return the sum of the sites' counts, int64 (intervals, fan), and the sites that gave them."""
        total, came = np.zeros((len(places[0]), fan), np.int64), list[str]()
        answers = self.fleet.ask(
            "train",
            {"column": places[0], "low": places[1]},
            reply={"counts": ("i8", total.shape)},
            settings={**self.settings, "step": "count", "shift": shift, "fan": fan},
            at_least=self.plan.min_sites,
            sites=sites,
            deadline_s=self.plan.deadline_s,
        )
        async for answer in answers:
            counts = answer.model["counts"]
            if (counts < 0).any() or (counts > MAX_ROWS).any() or (counts.sum(axis=1) > MAX_ROWS).any():
                answer.leave_out("it has counts that are not possible")
                continue
            total += counts
            came.append(answer.site)
        self.demand(came, answers)
        return total, came

    async def grown(self, model: Mapping[str, Any], points: Sequence[Any], growth: Growth) -> dict[str, float]:
        """Grow the trees of one round, a question for each level; return the metrics of the model before them."""
        flat, lengths = _cuts.padded(points)
        metrics, sites = Mean(like={}, max_share=self.plan.max_share), list[str]()
        while not growth.ended:
            shape = (len(growth.open), len(points), max(map(len, points)) + 2, 2)
            if math.prod(shape) * 8 > MAX_LEVEL:
                raise JobFailed(
                    f"level {growth.depth} of a tree wants {math.prod(shape) * 8:,} bytes of sums from each site",
                    why=f"{shape[0]} nodes, {shape[1]} features and {shape[2]} bins; {MAX_LEVEL:,} is the limit",
                    fix="lower max_depth or max_bin, or use xgboost_bagging",
                )
            answers = self.fleet.ask(
                "train",
                {
                    **model,
                    "cuts": flat,
                    "cut_counts": lengths,
                    "slot": growth.slots(),
                    **growth.result().arrays("new/"),
                },
                reply={"sums": ("i8", shape)},
                settings={**self.settings, "step": "sum", "level": growth.depth, "exponent": growth.rules.exponent},
                at_least=self.plan.min_sites,
                sample=0 if sites else self.plan.sample,
                sites=sites or None,
                deadline_s=self.plan.deadline_s,
            )
            total, came = np.zeros(shape, np.int64), list[str]()
            async for answer in answers:
                reason = _wrong(answer.model["sums"], total)
                if reason:
                    answer.leave_out(reason)
                    continue
                total += answer.model["sums"]
                came.append(answer.site)
                if not sites:
                    metrics.add_metrics(answer)
            self.demand(came, answers)
            growth.grow(total, points)
            sites = came
        return metrics.metrics

    def demand(self, came: Sequence[str], answers: Answers) -> None:
        """Raise `NotEnough` where too few answers count."""
        least = max(self.plan.min_sites, 1)
        if len(came) < least:
            said = "; ".join(by_reason(sorted(answers.left_out.items())))
            raise NotEnough(f"{len(came)} of the {least} answers that are needed count ({said})")


def _begun(found: _cuts.Intervals, features: int, bins: int, objective: str) -> tuple[dict[str, Any], float]:
    """Return the workflow's state, and the first value of every margin."""
    mean, most = (min(max(it, -MAX_LABEL), MAX_LABEL) for it in _cuts.typical(found, features))
    base, exponent = 0.0, 0
    if objective == "binary:logistic":
        share = min(max(mean, 1e-3), 1 - 1e-3)
        base = math.log(share / (1 - share))
    elif objective == "reg:squarederror":
        base = float(np.float32(mean))
        exponent = math.frexp(most + abs(base))[1]
    flat, lengths = _cuts.padded(_cuts.cut_points(found, features, bins))
    return {"cuts": flat, "cut_counts": lengths, "exponent": np.array([exponent], np.int64)}, base


def demand_alike(model: Mapping[str, Any], about: Any) -> None:
    """Raise `BadInput` for a model that a job begins with, and that has no trees of the same kind."""
    if model and not np.array_equal(model.get(trees.ABOUT, ()), about):
        raise BadInput(
            "the job begins with a model that has no trees, or trees of another objective, features or classes",
            why=f"its arrays are {', '.join(list(model)[:5])}",
            fix="leave `model` out of job.yaml, or name the model.safetensors of such a job",
        )


def _wrong(sums: Any, total: Any) -> str:
    """Return why sums cannot be added, empty if they can."""
    if (abs(sums.astype(np.float64)).sum(axis=2) > MAX_SUM).any():  # integers could overflow on the way to this sum
        return "it has sums that are not possible"
    if (sums[..., 1] < 0).any():
        return "it has negative sums of hessians"
    of_nodes = sums.sum(axis=2)
    if (of_nodes != of_nodes[:, :1]).any():
        return "its sums of a node differ from feature to feature"
    if (abs(total + sums.astype(np.float64)).sum(axis=2) > MAX_TOTAL).any():
        return "the sums of all sites would be too large"
    return ""


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with an objective and its classes, by name."""
    objective, classes = given.get("objective", "binary:logistic"), given.get("classes", 0)
    if objective not in trees.SUMS:
        return {"objective": f"wanted one of {', '.join(trees.SUMS)}"}
    if objective == "multi:softprob" and classes < 2:
        return {"classes": "multi:softprob wants the number of classes, such as `classes: 3`"}
    if objective != "multi:softprob" and classes not in (0, 2):
        return {"classes": f"{objective} has none: leave it out, or set `objective: multi:softprob`"}
    return {}
