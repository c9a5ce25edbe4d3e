"""What every training workflow shares: its parameters, and rounds of train, fold, measure and commit."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from convoy.errors import BadInput, JobFailed
from convoy.flows import keys as patterns
from convoy.flows.fleet import Answers, Fleet, Round
from convoy.model import bounds, robust
from convoy.model.arrays import Model
from convoy.model.mean import Mean
from convoy.spec.units import duration_s

LEAST: Final = {
    "rounds": 1, "min_sites": 1, "sample": 0, "stop_after": 0, "max_norm": 0, "max_norm_ratio": 0, "attackers": 0,
    "quorum": 0, "clip": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turned:
    """What one round made: the next model, the metrics of its training, the workflow's own state (None: as it was)."""

    model: Mapping[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    state: Mapping[str, Any] | None = None


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
        """Whether these metrics beat every committed round; without this metric they do not."""
        if self.metric not in metrics:
            return False
        sign = -1.0 if self.less else 1.0
        return sign * metrics[self.metric] > max((sign * value for value in self._values(history)), default=-math.inf)

    def check(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Raise `JobFailed` if no committed round has this metric."""
        if self._values(history):
            return
        came = sorted({name for past in history for name in past["metrics"]})
        raise JobFailed(
            f"no round has a best model: no site gave the metric {self.metric!r} in any round",
            why=f"the metrics that came: {', '.join(came) or 'none'}; a metric counts if it is a finite number, if the "
            "answer's weight is above 0, and if the site's policy lets it leave (`leave: {metrics: true}`)",
            fix="name one of them in `best`, or have the trainer report it; the last round's model is kept",
        )

    def _values(self, history: Sequence[Mapping[str, Any]]) -> list[float]:
        return [past["metrics"][self.metric] for past in history if self.metric in past["metrics"]]


def since_best(history: Sequence[Mapping[str, Any]]) -> int:
    """Return how many rounds were committed after the best one, 0 if none was."""
    flags = [bool(past["best"]) for past in history]
    return flags[::-1].index(True) if any(flags) else 0


@dataclass(frozen=True, slots=True)
class Training:
    """The parameters of a training workflow, as `with` of a job.yaml gives them.

    `min_sites`: the job fails with fewer answers. `sample`: ask this many sites, drawn at random in each round; 0: all.
    `deadline`: of each question, such as `10m`. `quorum`: once this many have answered a question, the others have
    `grace`, such as `30s`, before they are left out of it; 0: all are waited for. `evaluate`: sites measure each new
    model before it is committed; these metrics replace training metrics of the same name. `best`: the metric that
    decides which model is the best. `stop_after`: end after this many rounds without a better model; 0: never.
    `max_norm`: refuse updates whose distance from the model is larger (L2); 0: no bound. `max_norm_ratio`: if three or
    more answer, leave out updates that are this many times farther from the model than the median of the round; 0: no
    bound. `clip`: if three or more answer, shorten updates to this many times the median distance of the round; 0: none
    is. `max_share`: if three or more answer, the largest share of the sum that one weight counts for (of two: 0.99); 1:
    no bound. `fold`: what makes one
    model of the answers: `mean`, weighted, or one of `median`, `trimmed`, `krum`, `multikrum`, `bulyan`, `geometric`,
    which resist malicious answers and ignore weights. `attackers`: how many answers of a round may be malicious; null:
    as many as the fold tolerates among those that came (`trimmed` wants a number). `keys`: which tensors of the model
    are federated, as patterns of their names such as `encoder.*`; with `!` before it, a pattern names tensors that stay
    at each site, and `!@batchnorm` those of layers of batch normalisation. They are part of the model that trainers see
    and return, begin as the job's initial model has them, and never leave the site; the result is the federated part.
    null: the whole model. With `evaluate`, the metrics of round n are of the common model of round n with the tensors
    that each site kept in its last committed round, n - 1 or earlier: what it keeps of round n counts with the commit,
    which comes after.
    """

    rounds: int = 5
    min_sites: int = 1
    sample: int = 0
    deadline: str | float = ""
    quorum: int = 0
    grace: str | float = ""
    evaluate: bool = False
    best: str = ""
    stop_after: int = 0
    max_norm: float = 0.0
    max_norm_ratio: float = bounds.RATIO
    clip: float = 0.0
    max_share: float = bounds.SHARE
    fold: str = "mean"
    attackers: int | None = None
    keys: list[str] | None = None

    def __post_init__(self) -> None:
        """Raise `BadInput` for parameters that do not go together."""
        if self.stop_after and self.aim is None:
            raise BadInput("stop_after needs to know what better means", fix="name a metric: `best: auc`")

    @property
    def aim(self) -> Aim | None:
        """Which model is the best, None if nobody asks."""
        return Aim.read(self.best)

    @property
    def deadline_s(self) -> float:
        """The deadline of a question in seconds, 0 for none."""
        return duration_s(self.deadline) if self.deadline else 0.0

    @property
    def asking(self) -> dict[str, Any]:
        """The options of every question to train."""
        return {"deadline_s": self.deadline_s, "max_norm": self.max_norm, "partial": self.keys is not None}

    @property
    def waiting(self) -> dict[str, Any]:
        """The options of a question to many sites of which some may be slow."""
        return {"quorum": self.quorum, "grace": self.grace or 0.0}

    def folding(self, like: Mapping[str, Any]) -> Mean:
        """Return what folds the updates of one round that have the arrays of `like`."""
        return robust.fold_of(
            self.fold,
            like,
            attackers=self.attackers,
            max_share=self.max_share,
            max_norm_ratio=self.max_norm_ratio,
            clip=self.clip,
        )

    async def mean(
        self, fleet: Fleet, model: Mapping[str, Any], *, like: Mapping[str, Any] | None = None, **options: Any
    ) -> Mean:
        """Have sites train a model, and fold what they made of it, or of the part `like` of it."""
        mean = self.folding(model if like is None else like)
        async for update in self.trained(fleet, model, **options):
            mean.add(update)
        return mean

    def trained(self, fleet: Fleet, model: Mapping[str, Any], **options: Any) -> Answers:
        """Have sites train a model; return their answers."""
        return fleet.ask(
            "train",
            model,
            **{"at_least": self.min_sites, "sample": self.sample} | self.asking | self.waiting | options,
        )

    async def measured(self, fleet: Fleet, model: Mapping[str, Any]) -> dict[str, float]:
        """Return the weighted mean of the metrics that the sites measure of a model."""
        mean = Mean(like={}, max_share=self.max_share)
        options = {"deadline_s": self.deadline_s, "partial": self.keys is not None, **self.waiting}
        async for update in fleet.ask("evaluate", model, **options):
            mean.add_metrics(update)
        return mean.metrics

    async def run(self, fleet: Fleet, turn: Callable[[Round], Awaitable[Turned]]) -> None:
        """Make rounds until there are enough, or none gets better."""
        aim = self.aim
        async for round in fleet.rounds(self.rounds):  # noqa: A001 - the field's word
            if self.stop_after and since_best(fleet.history) >= self.stop_after:
                fleet.log(f"stopped before round {round.number}: no better {self.best} for {self.stop_after} rounds")
                return
            round.model = self._federated(fleet, round)
            await self._turn(fleet, round, turn)
        if aim is not None:
            aim.check(fleet.history)

    def _federated(self, fleet: Fleet, round: Round) -> Model:  # noqa: A002
        """Return the part of the model that is federated. Raises `BadInput` for `keys` that do not fit the model."""
        if self.keys is None:
            return round.model
        part = patterns.part(round.model, self.keys)
        if round.number == 1:  # later ones have what the first one committed
            patterns.check(list(round.model), self.keys)
            stay = [name for name in round.model if name not in part]
            fleet.log(f"{len(part)} tensors are federated; {len(stay)} stay at each site: {', '.join(stay)}")
        return part

    async def _turn(self, fleet: Fleet, round: Round, turn: Callable[[Round], Awaitable[Turned]]) -> None:  # noqa: A002
        """Make one round; a function, so that its arrays end with it."""
        aim, made = self.aim, await turn(round)
        metrics = made.metrics | (await self.measured(fleet, made.model) if self.evaluate else {})
        if aim is not None and aim.metric not in metrics:
            fleet.log(
                f"round {round.number}: no site gave {aim.metric!r}, which `best` names, as a finite number with a "
                f"weight above 0 (what came: {', '.join(sorted(metrics)) or 'none'}): this round's model is not a "
                "candidate for the best"
            )
        better = aim is not None and aim.improves(metrics, fleet.history)
        await round.commit(made.model, state=made.state, metrics=metrics, best=better)


def faults(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name: what their types alone do not say."""
    found: dict[str, str] = {}
    for name, least in LEAST.items():
        value = given.get(name, least)
        if value is not None and value < least:
            found[name] = f"wanted {least} or more"
    if not 0 < given.get("max_share", 1) <= 1:
        found["max_share"] = "wanted a share above 0 and up to 1, which is no bound"
    for name, read in (("deadline", duration_s), ("grace", duration_s), ("best", Aim.read)):
        try:
            read(given.get(name, "0"))
        except BadInput as problem:
            found[name] = problem.fix
    if given.get("stop_after") and not given.get("best"):
        found["stop_after"] = "it needs a metric to compare: add `best: auc`, or another one"
    if 0 < given.get("sample", 0) < given.get("min_sites", 1):
        found["sample"] = f"a sample of {given['sample']} can never give min_sites ({given['min_sites']})"
    if given.get("keys") is not None and (unfit := patterns.wrong(given["keys"])):
        found["keys"] = unfit
    return _fold_faults(given) | _quorum_faults(given) | found


def _quorum_faults(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with the quorum, beside the other numbers of sites, and with its grace."""
    quorum, least, sample = given.get("quorum", 0), given.get("min_sites", 1), given.get("sample", 0)
    if not quorum:
        return {"grace": "it begins with a quorum: add `quorum: 8`, or another number"} if given.get("grace") else {}
    if quorum < least:
        return {"quorum": f"wanted min_sites ({least}) or more: the round would end with too few answers"}
    if 0 < sample < quorum:
        return {"quorum": f"wanted at most sample ({sample}), which is how many sites are asked"}
    return {}


def _fold_faults(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with the fold, its attackers, and the number of answers that a round may have."""
    fold, attackers = given.get("fold", "mean"), given.get("attackers")
    if fold not in robust.FOLDS:
        return {"fold": f"wanted one of {', '.join(robust.FOLDS)}"}
    if fold == "mean":
        return {} if attackers is None else {"attackers": "the mean resists none: add another fold, `fold: trimmed`"}
    if fold == "trimmed" and attackers is None:
        return {"fold": "say how many values it leaves out at each end: `attackers: 1`"}
    least = robust.needed(fold, attackers)
    if given.get("min_sites", 1) < least:
        against = "" if attackers is None else f" against {attackers} attackers"
        return {
            "fold" if attackers is None else "attackers": f"{fold}{against} needs {least} answers "
            f"({robust.condition(fold)}), and a round may have {given.get('min_sites', 1)}: add `min_sites: {least}`"
        }
    return {}
