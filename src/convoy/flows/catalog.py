"""The workflows that Convoy brings along, by the name that a job.yaml gives them, and all that is known of each."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from convoy.errors import BadInput
from convoy.flows import (
    boosting,
    cox,
    crosssite,
    cyclic,
    diloco,
    ditto,
    fedasync,
    fedbn,
    fedbuff,
    feddyn,
    fedexlora,
    fednova,
    fedprox,
    forests,
    kmeans,
    optimisers,
    parameters,
    pca,
    regression,
    scaffold,
    survival,
    swarm,
    training,
)
from convoy.flows import statistics as statistical
from convoy.flows.fedavg import fedavg

Workflow = Callable[..., Awaitable[None]]

SITES: Final = "min_sites"  # the parameter by which a workflow says how many sites it needs before it can begin
COUNTS: Final = (SITES, "sample", "quorum")  # parameters that count sites


def _training_kinds(given: Mapping[str, Any]) -> tuple[str, ...]:
    return ("train", "evaluate") if given.get("evaluate") is True else ("train",)


def _trains_within(
    ranges: Mapping[str, parameters.Range], *, mean_alone: str = "", without: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """Return the check of a training workflow whose own numbers have these ranges.

    `mean_alone`: why it can fold in no other way than by the mean; empty: it can. `without`: parameters of `Training`
    that have no meaning in it, each with the reason.
    """

    def wrong(given: Mapping[str, Any]) -> dict[str, str]:
        other = mean_alone and given.get("fold", "mean") != "mean"
        folded = {"fold": f"wanted mean: {mean_alone}"} if other else {}
        meaningless = {name: f"leave it out: {why}" for name, why in without.items() if given.get(name)}
        return training.faults(given) | parameters.outside(given, ranges) | folded | meaningless

    return wrong


def _grows_trees(
    ranges: Mapping[str, parameters.Range],
    own: Callable[[Mapping[str, Any]], dict[str, str]] = lambda _: {},
    without: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """Return the check of a workflow of trees, of which all travel, and none is averaged; `own`: what else is wrong."""
    added = "trees are added to the model and not averaged"
    within = _trains_within(ranges, mean_alone=added, without={"clip": added, **without})

    def wrong(given: Mapping[str, Any]) -> dict[str, str]:
        parts = {} if given.get("keys") is None else {"keys": "wanted null: trees have no tensors that could stay"}
        return own(given) | within(given) | parts

    return wrong


@dataclass(frozen=True, slots=True)
class Entry:
    """One workflow: its function, what is wrong with its parameters, and the kinds of questions that it asks.

    `own_trainer`: Convoy's own code answers them (`convoy.worker.own`), and a job of this workflow brings none.
    """

    function: Workflow
    wrong: Callable[[Mapping[str, Any]], dict[str, str]]
    kinds: Callable[[Mapping[str, Any]], tuple[str, ...]] = _training_kinds
    own_trainer: bool = False

    @property
    def own(self) -> list[inspect.Parameter]:
        """The parameters that this workflow alone takes, after the fleet."""
        _, *found = inspect.signature(self.function).parameters.values()
        return [one for one in found if one.kind != one.VAR_KEYWORD]

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """All of its parameters: its own, and those of `Training` where the function passes them on."""
        *_, last = inspect.signature(self.function).parameters.values()
        shared = inspect.signature(training.Training).parameters.values() if last.kind == last.VAR_KEYWORD else ()
        return [*self.own, *shared]


BUILT_IN: Final[Mapping[str, Entry]] = {
    "fedavg": Entry(fedavg, training.faults),
    "fedavgm": Entry(optimisers.fedavgm, _trains_within(optimisers.RANGES)),
    "fedadam": Entry(optimisers.fedadam, _trains_within(optimisers.RANGES)),
    "fedyogi": Entry(optimisers.fedyogi, _trains_within(optimisers.RANGES)),
    "fedadagrad": Entry(optimisers.fedadagrad, _trains_within(optimisers.RANGES)),
    "fedprox": Entry(fedprox.fedprox, _trains_within(fedprox.RANGES)),
    "scaffold": Entry(
        scaffold.scaffold,
        _trains_within(scaffold.RANGES, mean_alone="the server's variate is the mean of the sites' own"),
    ),
    "feddyn": Entry(
        feddyn.feddyn,
        _trains_within(feddyn.RANGES, mean_alone="the server's h is the mean of the sites' own gradients"),
    ),
    "fednova": Entry(
        fednova.fednova, _trains_within(fednova.RANGES, mean_alone="steps count by weights, which the others ignore")
    ),
    "fedbn": Entry(fedbn.fedbn, _trains_within(fedbn.RANGES)),
    "ditto": Entry(ditto.ditto, _trains_within(ditto.RANGES)),
    "diloco": Entry(diloco.diloco, diloco.wrong),
    "fedex_lora": Entry(
        fedexlora.fedex_lora, _trains_within({}, mean_alone="a residual is what the mean of adapters lacks")
    ),
    "fedbuff": Entry(
        fedbuff.fedbuff,
        _trains_within(
            fedbuff.RANGES,
            mean_alone="a fast site may fill a buffer alone, and others ask who is in the majority",
            without={"quorum": "a round is committed as soon as `buffer` answers have arrived"},
        ),
    ),
    "fedasync": Entry(
        fedasync.fedasync,
        _trains_within(
            fedasync.RANGES,
            mean_alone="each answer is folded alone",
            without={
                "quorum": "each answer is committed as it arrives",
                "clip": "an answer has no others beside it, whose median could bound it",
            },
        ),
    ),
    "cyclic": Entry(
        cyclic.cyclic,
        _trains_within(
            cyclic.RANGES,
            mean_alone="one site trains after the other",
            without={
                "quorum": "one site is asked at a time",
                "clip": "an answer has no others beside it, whose median could bound it",
            },
        ),
    ),
    "swarm": Entry(swarm.swarm, _trains_within({}), swarm.kinds),
    "cross_site": Entry(crosssite.cross_site, training.faults, lambda _: ("train", "evaluate")),
    "statistics": Entry(statistical.statistics, statistical.wrong, lambda _: ("statistics",), own_trainer=True),
    "xgboost_histogram": Entry(
        boosting.xgboost_histogram,
        _grows_trees(
            boosting.RANGES,
            boosting.wrong,
            {"quorum": "all questions about one tree go to the same sites"},
        ),
    ),
    "xgboost_bagging": Entry(forests.xgboost_bagging, _grows_trees(forests.RANGES, forests.wrong)),
    "random_forest": Entry(forests.random_forest, _grows_trees(forests.RANGES)),
    "kmeans": Entry(kmeans.kmeans, kmeans.wrong, lambda _: ("statistics", "kmeans"), own_trainer=True),
    "pca": Entry(pca.pca, pca.wrong, lambda _: ("statistics",), own_trainer=True),
    "logistic": Entry(regression.logistic, regression.wrong, lambda _: ("statistics", "regression"), own_trainer=True),
    "linear": Entry(regression.linear, regression.wrong, lambda _: ("statistics", "regression"), own_trainer=True),
    "kaplan_meier": Entry(survival.kaplan_meier, survival.wrong, lambda _: ("survival",), own_trainer=True),
    "cox": Entry(cox.cox, cox.wrong, lambda _: ("statistics", "cox"), own_trainer=True),
}


def built_in(name: str) -> Workflow:
    """Return the workflow of that name. Raises `BadInput` if there is none."""
    found = BUILT_IN.get(name)
    if found is None:
        raise BadInput(
            f"there is no workflow {name!r}",
            why=f"built in: {', '.join(BUILT_IN)}",
            fix="name one of them, or a function of your own such as `flow.py:run`",
        )
    return found.function


def least_sites(given: Mapping[str, Any]) -> int:
    """Return how many sites a workflow with these parameters needs before it can begin."""
    value = given.get(SITES, 1)
    return value if isinstance(value, int) else 1
