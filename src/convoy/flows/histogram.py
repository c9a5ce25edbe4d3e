"""A federated histogram: how many values of each column fall into each bin, over all sites."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from convoy.errors import BadInput
from convoy.flows.fleet import Fleet
from convoy.spec.units import duration_s

MAX_COUNT: Final = 1 << 53  # values of one site in one bin: no site has as many, and their sum cannot overflow
MAX_BINS: Final = 100_000  # of each column


async def histogram(
    fleet: Fleet, *, columns: dict[str, list[float]], bins: int = 20, min_sites: int = 1, deadline: str | float = ""
) -> None:
    """Count in one round; trainers answer with `convoy.histogram(task, {"age": values, ...})`.

    `columns`: the range of each, such as `{age: [0, 100]}`; `bins`: how many, of equal width, for each. The result's
    arrays: `counts` int64 (columns, bins), `outside` int64 (columns, 2) of values below and above, `missing` int64
    (columns,), `edges` float64 (columns, bins + 1); the order of columns is that of the parameter.

    Equation: counts[c, b] = sum_k |{x in column c of site k: edges[c, b] <= x < edges[c, b + 1]}|

    Use it: to learn the distribution of a feature before training.

    Leaves the site: its own counts by column and bin.

    Paper: none; counts are added.
    """
    if problems := wrong({"columns": columns, "bins": bins}):
        raise BadInput("; ".join(f"{name}: {problem}" for name, problem in problems.items()))
    names = list(columns)
    edges = np.stack([np.linspace(float(low), float(high), bins + 1) for low, high in columns.values()])
    shapes = {"counts": (len(names), bins), "outside": (len(names), 2), "missing": (len(names),)}
    wanted = {name: ("i8", shape) for name, shape in shapes.items()}
    async for round in fleet.rounds(1):  # noqa: A001 - the field's word
        total = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
        answers = fleet.ask(
            "histogram",
            {},
            reply=wanted,
            settings={"columns": {name: list(map(float, columns[name])) for name in names}, "bins": bins},
            at_least=min_sites,
            deadline_s=duration_s(deadline) if deadline else 0.0,
        )
        count = 0
        async for answer in answers:
            if any((array < 0).any() or (array > MAX_COUNT).any() for array in answer.model.values()):
                answer.leave_out("it has counts that cannot be")
                continue
            count += 1
            for name, array in answer.model.items():
                total[name] += array
        await round.commit({**total, "edges": edges}, metrics={"sites": count, "values": int(total["counts"].sum())})


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found: dict[str, str] = {}
    columns, bins = given.get("columns", {}), given.get("bins", 20)
    if not 0 < bins <= MAX_BINS:
        found["bins"] = f"wanted 1 to {MAX_BINS}"
    if not columns:
        found["columns"] = "wanted the range of each column, such as {age: [0, 100]}"
    for name, ends in columns.items():
        fits = isinstance(ends, list | tuple) and len(ends) == 2 and all(_is_number(end) for end in ends)
        if not fits or not ends[0] < ends[1]:
            found["columns"] = f"wanted two numbers for {name!r}, the lower one first, such as [0, 100]"
    if given.get("min_sites", 1) < 1:
        found["min_sites"] = "wanted 1 or more"
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
