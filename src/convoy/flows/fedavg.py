"""Federated averaging: the weighted mean of what the sites trained, round after round (McMahan et al., 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convoy.errors import BadInput, JobFailed
from convoy.flows.fleet import Fleet, Round
from convoy.model.mean import Mean
from convoy.spec.units import duration_s


@dataclass(frozen=True, slots=True)
class Aim:
    """Which metric says that a model is better: `auc` (more is better) or `min:loss` (less is)."""

    metric: str
    less: bool

    @classmethod
    def read(cls, text: str) -> Aim | None:
        """Return the aim that a job.yaml states, None for none. Raises `BadInput`."""
        way, _, metric = text.rpartition(":")
        if way not in ("", "min", "max") or (text and not metric):
            raise BadInput(f"best: {text!r} is no aim", fix='write a metric such as "auc", or "min:loss"')
        return cls(metric, way == "min") if text else None

    def improves(self, metrics: Mapping[str, float], history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether these metrics beat every committed round. Raises `JobFailed` if the metric is not among them."""
        if self.metric not in metrics:
            given = (
                ", ".join(sorted(metrics)) or "none at all: a site's policy may keep them (`leave: {metrics: false}`)"
            )
            raise JobFailed(f"no site gave the metric {self.metric!r} that `best` names", why=f"their metrics: {given}")
        sign = -1.0 if self.less else 1.0
        return sign * metrics[self.metric] > max((sign * value for value in self._values(history)), default=-math.inf)

    def _values(self, history: Sequence[Mapping[str, Any]]) -> list[float]:
        return [past["metrics"][self.metric] for past in history if self.metric in past["metrics"]]


def since_best(history: Sequence[Mapping[str, Any]]) -> int:
    """Return how many rounds were committed after the best one, 0 if none was."""
    flags = [bool(past["best"]) for past in history]
    return flags[::-1].index(True) if any(flags) else 0


def faults(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name: what their types alone do not say."""
    found: dict[str, str] = {}
    for name, least in (("rounds", 1), ("min_sites", 1), ("sample", 0), ("stop_after", 0), ("max_norm", 0)):
        if given.get(name, least) < least:
            found[name] = f"wanted {least} or more"
    for name, read in (("deadline", duration_s), ("best", Aim.read)):
        try:
            read(given.get(name, "0"))
        except BadInput as problem:
            found[name] = problem.fix
    if given.get("stop_after") and not given.get("best"):
        found["stop_after"] = "it needs a metric to compare: add `best: auc`, or another one"
    if 0 < given.get("sample", 0) < given.get("min_sites", 1):
        found["sample"] = f"a sample of {given['sample']} can never give min_sites ({given['min_sites']})"
    return found


async def fedavg(
    fleet: Fleet,
    *,
    rounds: int = 5,
    min_sites: int = 1,
    sample: int = 0,
    deadline: str | float = "",
    evaluate: bool = False,
    best: str = "",
    stop_after: int = 0,
    max_norm: float = 0.0,
) -> None:
    """Train for some rounds.

    `min_sites`: fewer answers fail the job. `sample`: ask so many sites, drawn anew each round; 0: all. `deadline`: of
    each question, such as `10m`. `evaluate`: have the sites measure each new model before it is committed; its
    metrics then stand in place of training's of the same name. `best`: the metric that marks the best model.
    `stop_after`: end after so many rounds without a better one. `max_norm`: refuse updates farther away (L2).
    """
    aim = Aim.read(best)
    if stop_after and aim is None:
        raise BadInput("stop_after needs to know what better means", fix="name a metric: `best: auc`")
    limit_s = duration_s(deadline) if deadline else 0.0

    async def turn(round: Round) -> None:  # noqa: A002 - the field's word; a function, so that its arrays end with it
        mean = Mean(like=round.model)
        async for update in fleet.ask(
            "train", round.model, at_least=min_sites, sample=sample, deadline_s=limit_s, max_norm=max_norm
        ):
            mean.add(update)
        arrays, metrics = mean.result(), mean.metrics
        if evaluate:
            metrics |= await measure(fleet, arrays, deadline_s=limit_s)
        await round.commit(arrays, metrics=metrics, best=aim is not None and aim.improves(metrics, fleet.history))

    async for round in fleet.rounds(rounds):  # noqa: A001 - the field's word
        if stop_after and since_best(fleet.history) >= stop_after:
            fleet.log(f"stopped before round {round.number}: no better {best} for {stop_after} rounds")
            return
        await turn(round)


async def measure(fleet: Fleet, arrays: Any, *, deadline_s: float = 0.0) -> dict[str, float]:
    """Return the weighted mean of the metrics that the sites measure of a model."""
    mean = Mean(like={})
    async for update in fleet.ask("evaluate", arrays, deadline_s=deadline_s):
        mean.add_metrics(update)
    return mean.metrics
