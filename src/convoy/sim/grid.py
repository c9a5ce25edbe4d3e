"""The points of a sweep: a job with other settings and other seeds, each a simulation of its own."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import yaml
from blake3 import blake3

from convoy.errors import BadInput
from convoy.sim.plan import Plan
from convoy.spec import yamls

MOST: Final = 10_000  # points
FIRST: Final = ("with", "config", "patience", "resources", "workflow", "trainer", "model")  # keys of job.yaml


@dataclass(frozen=True, slots=True)
class Point:
    """One simulation of a sweep: its settings by their place in job.yaml, its seed, and the plan with both."""

    settings: Mapping[str, Any]
    seed: str
    number: int  # of the seed, from 1
    plan: Plan
    contents: Callable[[], Mapping[str, Any]]  # digests of its data, which are calculated once for all that share it

    @property
    def name(self) -> str:
        """The name of its folder; of long ones a digest says what is cut."""
        said = ",".join(
            [
                *(f"{key}={json.dumps(value)}" for key, value in self.settings.items()),
                f"seed={self.seed if self.seed.isdecimal() else self.number}",
            ]
        )
        clean = re.sub(r"[^A-Za-z0-9._=,-]", "", said)
        return clean if clean == said and len(said) <= 100 else f"{clean[:80]}-{blake3(said.encode()).hexdigest()[:8]}"

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a result that is there to be that of this point."""
        files = {name: blake3(data).hexdigest() for name, data in sorted(self.plan.files.items())}
        data = blake3(json.dumps([files, self.contents()], sort_keys=True).encode()).hexdigest()
        return {"settings": dict(self.settings), "seed": self.seed, "sites": list(self.plan.sites), "files": data}


def points(plan: Plan, given: Sequence[str], seeds: int) -> list[Point]:
    """Return the grid of all values of all settings, each with as many seeds; the first seed is the job's own.

    `given`: settings as `PLACE=VALUE,VALUE…`, such as `config.lr=0.1,0.01`. Raises `BadInput`.
    """
    wanted: dict[str, list[Any]] = {}
    for one in given:
        place, values = _read(one)
        if place in wanted:
            raise BadInput(f"{place} is set twice", fix=f"write --set {place}=VALUE,VALUE")
        wanted[place] = values
    count = seeds
    for values in wanted.values():
        count *= len(values)
    if count > MOST:
        raise BadInput(f"this grid has {count:,} simulations", why=f"{MOST:,} are the limit", fix="set fewer values")
    found, contents = [], cache(plan.given)
    for chosen in itertools.product(*wanted.values()):
        settings = dict(zip(wanted, chosen, strict=True))
        changed = _changed(plan, settings)
        theirs = contents if changed.divided is plan.divided else cache(changed.given)
        for number in range(seeds):
            seed = _seed(plan.job.seed, number)
            job = changed.job.model_copy(update={"seed": seed})
            found.append(Point(settings, seed, number + 1, replace(changed, job=job), theirs))
    return found


def added(plan: Plan, grid: Sequence[Point]) -> list[str]:
    """Return a sentence for each key that a grid adds to the job's own `config`: it may be a word that is misspelt."""
    places = sorted({place for point in grid for place in point.settings if place.startswith("config.")})
    found = []
    for place in places:
        inner: Any = {"config": plan.job.config}
        for key in place.split("."):
            if not isinstance(inner, Mapping) or key not in inner:
                known = (", ".join(sorted(inner)) if isinstance(inner, Mapping) else "") or "no key"
                found.append(f"job.yaml has no `{place}` (there is {known}): it counts only if the job's code reads it")
                break
            inner = inner[key]
    return found


def _read(one: str) -> tuple[str, list[Any]]:
    place, equals, text = one.partition("=")
    if not equals or not place or not text:
        raise BadInput(f"--set {one} sets nothing", fix="write --set config.lr=0.1,0.01")
    if place.split(".")[0] not in FIRST:
        known = "the job's own seed and --seeds give seeds" if place == "seed" else f"known are {', '.join(FIRST)}"
        raise BadInput(f"--set {place} is no setting of job.yaml", why=known, fix="write --set config.lr=0.1,0.01")
    try:
        values = yamls.load(f"values: [{text}]", name="--set").mapping()["values"]
    except BadInput as problem:
        raise BadInput(f"--set {one} cannot be read: {problem.what}", why=problem.why) from problem
    if not values or not all(place.split(".")):
        raise BadInput(f"--set {one} sets nothing", fix="write --set config.lr=0.1,0.01")
    if len({json.dumps(value) for value in values}) < len(values):
        raise BadInput(f"--set {one} has a value twice", fix="remove one of them")
    return place, values


def _changed(plan: Plan, settings: Mapping[str, Any]) -> Plan:
    """Return a plan whose job.yaml has these settings, checked as any. Raises `BadInput`."""
    if not settings:
        return plan
    document = yamls.load(plan.files["job.yaml"].decode(), name="job.yaml").mapping()
    for place, value in settings.items():
        *way, last = place.split(".")
        inner: Any = document
        for key in way:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise BadInput(f"--set {place}: {key!r} in job.yaml is {yamls.seen(inner)}", why="nothing is below it")
        inner[last] = value
    files = {**plan.files, "job.yaml": yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()}
    said = " ".join(f"--set {place}={value}" for place, value in settings.items())
    try:
        return plan.changed(files)
    except BadInput as problem:
        raise BadInput(problem.what, why=problem.why, fix=problem.fix, where=said) from problem


def _seed(own: str, number: int) -> str:
    """Return the seed with a number, from 0: the job's own, then those that follow it."""
    if not number:
        return own
    return str(int(own) + number) if re.fullmatch(r"\d{1,18}", own) else f"{own}-{number + 1}"
