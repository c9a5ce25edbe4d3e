"""What all fits of tables share: exact sums over sites, scales of columns, checks of answers, and tails.

Sums are `math.fsum`, which is exact before its last rounding: the order of the sites does not change one bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convoy.flows import statistics as tables
from convoy.flows.document import Asked
from convoy.flows.fleet import Fleet
from convoy.flows.pooled import MAX_COUNT, MAX_SQUARE, Moments, moments
from convoy.model.update import Update
from convoy.spec.units import duration_s

MAX_TERMS: Final = 60  # of one regression: an answer of `cox` has the square of it for each interval
MAX_STEPS: Final = 200  # intervals of time
Z95: Final = 1.959963984540054  # of the normal distribution: 95 % lie within

Array = np.ndarray[Any, Any]
Shapes = Mapping[str, tuple[str, tuple[int | None, ...]]]


@dataclass(frozen=True, slots=True)
class Asking:
    """A table, and how long a question waits for how many sites; `deadline_s` 0: only the job's patience applies."""

    table: str
    min_sites: int
    deadline_s: float

    @classmethod
    def of(cls, table: str, min_sites: int, deadline: str | float) -> Asking:
        """Read the parameters of a workflow. Raises `BadInput` for a deadline that is no time."""
        return cls(table, min_sites, duration_s(deadline) if deadline else 0.0)

    async def of_sites(
        self, fleet: Fleet, kind: str, model: Mapping[str, Array], settings: Mapping[str, Any], reply: Shapes
    ) -> tuple[dict[str, dict[str, Array]], Mapping[str, str]]:
        """Return the arrays of each site, and the sites that are left out, with the reason. Raises `NotEnough`."""
        answers = fleet.ask(
            kind,
            model,
            reply=reply,
            reply_limit="16Mi",
            settings={"table": self.table, **settings},
            at_least=self.min_sites,
            deadline_s=self.deadline_s,
        )
        found: dict[str, dict[str, Array]] = {}
        async for answer in answers:
            if problem := impossible(answer):
                answer.leave_out(problem)
            else:
                found[answer.site] = {name: np.asarray(it) for name, it in answer.model.items()}
        return found, answers.left_out


def is_done(fleet: Fleet) -> bool:
    """Return whether the last committed round has found what it looks for, also after a restart."""
    return bool(fleet.history) and fleet.history[-1]["metrics"].get("converged") == 1.0


def impossible(answer: Update) -> str:
    """Return what cannot be in an answer; empty if it can."""
    for name, it in answer.model.items():
        array = np.asarray(it)
        if array.dtype.kind == "i" and ((array < -1) | (array > MAX_COUNT)).any():
            return "it has counts that cannot be"
        if array.dtype.kind == "f" and not (np.abs(array) <= MAX_SQUARE).all():
            return "it has numbers that cannot be"
        if name in ("risk.weight", "loss", "clusters.squares") and (array < 0).any():
            return "it has a negative sum of what is never negative"
    return ""


def total(each: Sequence[Array]) -> Array:
    """Return the sum of arrays of one shape, float64, the same bits in any order of them."""
    flat = np.stack([np.asarray(it, np.float64).ravel() for it in each], axis=1)
    return np.array([math.fsum(row) for row in flat.tolist()]).reshape(each[0].shape)


def counted(each: Sequence[Array]) -> Array:
    """Return the sum of counts, int64, in which -1 stands for none."""
    return np.asarray(np.sum([np.maximum(it, 0) for it in each], axis=0, dtype=np.int64))


async def scales(fleet: Fleet, asking: Asking, columns: Sequence[str]) -> tuple[Array, Array]:
    """Return mean and standard deviation of columns over all sites, float64 (columns,); 0 and 1 where none tells."""
    middle, scale = np.zeros(len(columns)), np.ones(len(columns))
    if not columns:
        return middle, scale
    asked = Asked(asking.table, columns, ["mean"], "", 1, {}, [])
    settings, reply = tables.settings(asked, None), tables.wanted(asked)
    found, _ = await asking.of_sites(fleet, "statistics", {}, settings, reply)
    for column in range(len(columns)):
        each = [
            Moments(*(it[f"moments.{name}"][0, column].item() for name in ("count", "mean", "m2")))
            for it in found.values()
            if len(it["moments.count"]) and it["moments.count"][0, column] > 0
        ]
        whole = moments(each)
        if whole.count:
            spread = math.sqrt(max(whole.variance or 0.0, 0.0))
            middle[column], scale[column] = whole.mean, spread if spread > 0 else 1.0
    return middle, scale


def faults(given: Mapping[str, Any], *, least: int = 1) -> dict[str, str]:
    """Return what is wrong with the parameters that fits share; `least`: how many columns there have to be."""
    columns, categories = given.get("columns") or [], given.get("categories") or {}
    found = tables.wrong({"min_sites": given.get("min_sites", 1), "columns": columns or ["any"]})
    if len(columns) < least or "columns" in found:
        found["columns"] = f"wanted a list of at least {least} different names, such as [age, bmi]"
    for name, values in categories.items():
        texts = isinstance(values, list) and all(isinstance(it, str) and it for it in values)
        if not texts or len({*values}) != len(values) or len(values) < 2:
            found["categories"] = (
                f"wanted two or more different values for {name!r}, as text, the one to compare with first"
            )
        elif name in columns:
            found["categories"] = f"wanted columns that are not among `columns`, and {name!r} is"
    if not found and len(columns) + sum(len(it) - 1 for it in categories.values()) > MAX_TERMS:
        found["columns"] = f"wanted at most {MAX_TERMS} columns and values of categories"
    for name in ("rounds", "steps"):
        if not 1 <= given.get(name, 1) <= (MAX_STEPS if name == "steps" else 10_000):
            found[name] = f"wanted 1 to {MAX_STEPS if name == 'steps' else 10_000}"
    if not 0 < given.get("until", 1.0) < math.inf:
        found["until"] = "wanted a time above 0, in the unit of the column"
    return found


def two_sided(z: float) -> float:
    """Return how likely a normal value is to be as far from 0."""
    return math.erfc(abs(z) / math.sqrt(2.0))


def chi_square_tail(value: float, freedom: int) -> float:
    """Return how likely a chi-square value with so many degrees of freedom is to be as large.

    The finite series of Abramowitz and Stegun: Handbook of Mathematical Functions, 1964, 26.4.4 and 26.4.5.
    """
    half = value / 2.0
    if freedom % 2:
        found, term = math.erfc(math.sqrt(half)), math.exp(-half) * math.sqrt(half) / math.gamma(1.5)
        first = 1.5
    else:
        found, term, first = 0.0, math.exp(-half), 1.0
    for step in range(freedom // 2):
        found += term
        term *= half / (first + step)
    return min(found, 1.0)
