"""The workflows that Convoy brings along, by the name that a job.yaml gives them, and all that is known of each."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from convoy.errors import BadInput
from convoy.flows import parameters, training

Workflow = Callable[..., Awaitable[None]]

SITES: Final = "min_sites"  # the parameter by which a workflow says how many sites it needs before it can begin
COUNTS: Final = (SITES, "sample", "quorum")  # parameters that count sites

Given = Mapping[str, Any]
Wrong = Callable[[Any, Given], dict[str, str]]  # gets the workflow's module, too
Kinds = Callable[[Any, Given], tuple[str, ...]]


def _training_kinds(_: Any, given: Given) -> tuple[str, ...]:
    return ("train", "evaluate") if given.get("evaluate") is True else ("train",)


def _trains(_: Any, given: Given) -> dict[str, str]:
    """The check of a training workflow without numbers of its own."""
    return training.faults(given)


def _trains_within(
    *, mean_alone: str = "", without: Mapping[str, str] = MappingProxyType({}), ranges: bool = True
) -> Wrong:
    """Return the check of a training workflow whose own numbers have the `RANGES` of its module, if it has `ranges`.

    `mean_alone`: why it can fold in no other way than by the mean; empty: it can. `without`: parameters of `Training`
    that have no meaning in it, each with the reason.
    """

    def wrong(flow: Any, given: Given) -> dict[str, str]:
        other = mean_alone and given.get("fold", "mean") != "mean"
        folded = {"fold": f"wanted mean: {mean_alone}"} if other else {}
        meaningless = {name: f"leave it out: {why}" for name, why in without.items() if given.get(name)}
        outside = parameters.outside(given, flow.RANGES) if ranges else {}
        return training.faults(given) | outside | folded | meaningless

    return wrong


def _grows_trees(own: Wrong = lambda _, __: {}, without: Mapping[str, str] = MappingProxyType({})) -> Wrong:
    """Return the check of a workflow of trees, of which all travel, and none is averaged; `own`: what else is wrong."""
    added = "trees are added to the model and not averaged"
    within = _trains_within(mean_alone=added, without={"clip": added, **without})

    def wrong(flow: Any, given: Given) -> dict[str, str]:
        parts = {} if given.get("keys") is None else {"keys": "wanted null: trees have no tensors that could stay"}
        return own(flow, given) | within(flow, given) | parts

    return wrong


def _own(flow: Any, given: Given) -> dict[str, str]:
    """The check that the workflow's module brings."""
    found: dict[str, str] = flow.wrong(given)
    return found


def _own_kinds(flow: Any, given: Given) -> tuple[str, ...]:
    found: tuple[str, ...] = flow.kinds(given)
    return found


def _always(*kinds: str) -> Kinds:
    return lambda _, __: kinds


@dataclass(frozen=True, slots=True)
class Entry:
    """One workflow: its name, which is that of its function, too, and its module.

    The module is loaded once something of it is wanted: all of them together take as long to load as numpy.
    `own_trainer`: Convoy's own code answers its questions (`convoy.worker.built_in`), and a job of it brings none.
    """

    name: str
    module: str  # in `convoy.flows`
    check: Wrong
    asks: Kinds = _training_kinds
    own_trainer: bool = False

    @property
    def _flow(self) -> Any:
        return importlib.import_module(f"convoy.flows.{self.module}")

    @property
    def function(self) -> Workflow:
        """The workflow's function."""
        found: Workflow = getattr(self._flow, self.name)
        return found

    def wrong(self, given: Given) -> dict[str, str]:
        """Return what is wrong with these parameters, by name: what their types alone do not say."""
        return self.check(self._flow, given)

    def kinds(self, given: Given) -> tuple[str, ...]:
        """Return the kinds of questions that it asks with these parameters."""
        return self.asks(self._flow, given)

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


_ENTRIES: Final = (
    Entry("fedavg", "fedavg", _trains),
    Entry("fedavgm", "optimisers", _trains_within()),
    Entry("fedadam", "optimisers", _trains_within()),
    Entry("fedyogi", "optimisers", _trains_within()),
    Entry("fedadagrad", "optimisers", _trains_within()),
    Entry("fedprox", "fedprox", _trains_within()),
    Entry("scaffold", "scaffold", _trains_within(mean_alone="the server's variate is the mean of the sites' own")),
    Entry("feddyn", "feddyn", _trains_within(mean_alone="the server's h is the mean of the sites' own gradients")),
    Entry("fednova", "fednova", _trains_within(mean_alone="steps count by weights, which the others ignore")),
    Entry("fedbn", "fedbn", _trains_within()),
    Entry("ditto", "ditto", _trains_within()),
    Entry("diloco", "diloco", _own),
    Entry(
        "fedex_lora",
        "fedexlora",
        _trains_within(mean_alone="a residual is what the mean of adapters lacks", ranges=False),
    ),
    Entry(
        "fedbuff",
        "fedbuff",
        _trains_within(
            mean_alone="a fast site may fill a buffer alone, and others ask who is in the majority",
            without={"quorum": "a round is committed as soon as `buffer` answers have arrived"},
        ),
    ),
    Entry(
        "fedasync",
        "fedasync",
        _trains_within(
            mean_alone="each answer is folded alone",
            without={
                "quorum": "each answer is committed as it arrives",
                "clip": "an answer has no others beside it, whose median could bound it",
            },
        ),
    ),
    Entry(
        "cyclic",
        "cyclic",
        _trains_within(
            mean_alone="one site trains after the other",
            without={
                "quorum": "one site is asked at a time",
                "clip": "an answer has no others beside it, whose median could bound it",
            },
        ),
    ),
    Entry("swarm", "swarm", _trains_within(ranges=False), _own_kinds),
    Entry("cross_site", "crosssite", _trains, _always("train", "evaluate")),
    Entry("statistics", "statistics", _own, _always("statistics"), own_trainer=True),
    Entry(
        "xgboost_histogram",
        "boosting",
        _grows_trees(_own, {"quorum": "all questions about one tree go to the same sites"}),
    ),
    Entry("xgboost_bagging", "forests", _grows_trees(_own)),
    Entry("random_forest", "forests", _grows_trees()),
    Entry("kmeans", "kmeans", _own, _always("statistics", "kmeans"), own_trainer=True),
    Entry("pca", "pca", _own, _always("statistics"), own_trainer=True),
    Entry("logistic", "regression", _own, _always("statistics", "regression"), own_trainer=True),
    Entry("linear", "regression", _own, _always("statistics", "regression"), own_trainer=True),
    Entry("kaplan_meier", "survival", _own, _always("survival"), own_trainer=True),
    Entry("cox", "cox", _own, _always("statistics", "cox"), own_trainer=True),
)
BUILT_IN: Final[Mapping[str, Entry]] = {entry.name: entry for entry in _ENTRIES}


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


def kinds_of(workflow: str, given: Given) -> tuple[str, ...]:
    """Return the kinds of questions that a workflow asks with these parameters; nothing for one of a job's own."""
    return BUILT_IN[workflow].kinds(given) if workflow in BUILT_IN else ()


def least_sites(given: Mapping[str, Any]) -> int:
    """Return how many sites a workflow with these parameters needs before it can begin."""
    value = given.get(SITES, 1)
    return value if isinstance(value, int) else 1
