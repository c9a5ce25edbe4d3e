"""What happens in a job, as values that every experiment tracker gets: its facts, its rounds, its points, its end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MAX_PARAMS: Final = 1000  # of one job; of more, the last one is `convoy.params_left_out`: how many are missing
MAX_TEXT: Final = 5000  # characters of a parameter or a tag: MLflow's limit for tags, the smallest of the three
MAX_NAME: Final = 250  # characters of the name of a parameter or a metric: MLflow's limit
TOOK_PART, LEFT_OUT, BEST, WEIGHT = "round/took_part", "round/left_out", "round/best", "round/weight"


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a job before its first round; `submitted_at` is seconds since the epoch."""

    job: str
    name: str
    project: str
    submitted_at: float
    params: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Round:
    """A round; `at` is seconds since the epoch. One that is not `committed` is the round in which the job ended."""

    number: int
    at: float
    metrics: Mapping[str, float]
    best: bool = False
    committed: bool = True
    took_part: tuple[tuple[str, float], ...] = ()  # site and weight
    left_out: tuple[tuple[str, str], ...] = ()  # site and reason


@dataclass(frozen=True, slots=True)
class Point:
    """Live metrics that were measured together; `site` is "server" for the workflow, and `number` counts its points."""

    site: str
    number: int
    at: float
    round: int
    values: Mapping[str, float]
    step: int | None = None
    phase: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended; `at` is seconds since the epoch, `tags` what is known only now."""

    state: str
    cause: str
    at: float
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a tracker is: its last round, the number of each site's last point, the best round (-1: none yet)."""

    round: int = -1
    points: Mapping[str, int] = field(default_factory=dict)
    best: int = -1
    ended: bool = False

    def after(self, batch: Batch) -> Place:
        """Return the place once a batch has arrived."""
        points = dict(self.points)
        points |= {one.site: max(one.number, points.get(one.site, -1)) for one in batch.points}
        round_ = max([self.round, *(one.number for one in batch.rounds)])
        best = max([self.best, *(one.number for one in batch.rounds if one.best)])
        return Place(round_, points, best, self.ended)

    def lacks(self, one: Round | Point) -> bool:
        """Return whether a round or a point is still to come."""
        return one.number > (self.round if isinstance(one, Round) else self.points.get(one.site, -1))


@dataclass(frozen=True, slots=True)
class Batch:
    """Rounds and points that go to a tracker together, each kind in its order."""

    rounds: tuple[Round, ...] = ()
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one curve; `site` is empty for curves of the whole job, `at` is seconds since the epoch."""

    site: str
    key: str
    step: int
    at: float
    value: float


def samples(batch: Batch) -> Iterator[Sample]:
    """Yield the values of a batch, those of each curve in their order.

    Points of the same second have the same time. They get a millisecond each by their number, so that a store which
    tells values apart by time and step keeps all of them.
    """
    for made in batch.rounds:
        own = dict(made.metrics) if made.committed else {}
        own |= {TOOK_PART: float(len(made.took_part)), LEFT_OUT: float(len(made.left_out))}
        own |= {BEST: float(made.number)} if made.best else {}
        yield from (Sample("", key, made.number, made.at, value) for key, value in own.items())
        yield from (Sample(site, WEIGHT, made.number, made.at, weight) for site, weight in made.took_part)
    for point in batch.points:
        at, step = int(point.at) + point.number % 1000 / 1000, point.round if point.step is None else point.step
        for key, value in point.values.items():
            yield Sample(point.site, f"{point.phase}/{key}" if point.phase else key, step, at, value)


def params_of(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return a job.yaml as flat texts: `with.rounds`, `config.lr`; what is not said has no line."""
    found: dict[str, str] = {}
    for name, value in _flat("", spec):
        found.setdefault(name[:MAX_NAME], text(value))
    if len(found) > MAX_PARAMS:
        first = list(found.items())[: MAX_PARAMS - 1]
        return {**dict(first), "convoy.params_left_out": str(len(found) - len(first))}
    return found


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif value not in (None, "", []):
        yield prefix, value


def text(value: Any) -> str:
    """Return a value as a text of a bounded length: texts as they are, other values as JSON."""
    said = value if isinstance(value, str) else json.dumps(value)
    return said if len(said) <= MAX_TEXT else f"{said[: MAX_TEXT - 1]}…"
