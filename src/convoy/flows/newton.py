"""Newton's steps to the maximum of a likelihood whose sums come from the sites, and its coefficients for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convoy.errors import JobFailed
from convoy.flows.document import written
from convoy.flows.fitting import Z95, Asking, Shapes, is_done, scales, two_sided
from convoy.flows.fleet import Fleet, Round

CLOSE: Final = 1e-18  # of the decrement g^T H^-1 g: the step is then a 1e-9th of a standard error
SINGULAR: Final = 1e-11  # smallest eigenvalue of a scaled Hessian, by the largest, that is not rounding

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """The negative log-likelihood at some coefficients, its gradient (p,) and its Hessian (p, p), float64.

    `rows`: those that it is over; `unit`: what a change of it is compared with, 1 for a likelihood.
    """

    loss: float
    gradient: Array
    hessian: Array
    rows: int
    unit: float = 1.0


@dataclass(frozen=True, slots=True)
class Fit:
    """One fit: the question, the terms in their order, and what its answers mean.

    `point`: of the arrays of each site and the coefficients; `document`: of the final one, beside the terms. The first
    term is the intercept if there is one.
    """

    asking: Asking
    kind: str
    settings: Mapping[str, Any]
    columns: Sequence[str]
    categories: Mapping[str, Sequence[str]]
    intercept: bool
    reply: Callable[[int], Shapes]
    point: Callable[[Sequence[Mapping[str, Array]], Array], Point]
    document: Callable[[Point], dict[str, Any]]
    ratio: str = ""  # what exp(coefficient) is called

    @property
    def terms(self) -> list[str]:
        """The names of the coefficients."""
        levels = [f"{name} = {value}" for name, values in self.categories.items() for value in values[1:]]
        return [*["intercept"] * self.intercept, *self.columns, *levels]

    async def run(self, fleet: Fleet, rounds: int) -> None:
        """Take steps until one is too small to matter. Raises `JobFailed` where there is no finite maximum."""
        async for round in fleet.rounds(rounds):  # noqa: A001 - the field's word
            if is_done(fleet):
                return
            await self._step(fleet, round)
        if not is_done(fleet):
            raise JobFailed(
                f"the coefficients have not settled after {rounds} rounds",
                why="the columns may separate the outcome, or give it without error: no finite ones are best then",
                fix="leave out columns, join rare values of categories, or allow more `rounds`",
            )

    async def _step(self, fleet: Fleet, round: Round) -> None:  # noqa: A002
        """Ask for the sums at one place, and commit the next one."""
        state = dict(round.state) or await self._begin(fleet)
        beta, model = state["beta"], {name: state[name] for name in ("middle", "scale", "beta")}
        found, left_out = await self.asking.of_sites(fleet, self.kind, model, self.settings, self.reply(len(beta)))
        point = self.point(list(found.values()), beta)
        # With other sites than in the round before, losses cannot be compared.
        worse = point.rows == int(state["rows"][0]) and point.loss > state["loss"][0] + 1e-9 * abs(state["loss"][0])
        metrics = {"sites": float(len(found)), "rows": float(point.rows), "loss": point.loss}
        if worse:  # the step was too long: half of it from the place before
            state["step"] = state["step"] / 2
            state["beta"] = state["kept"] + state["step"]
            await round.commit({"coefficients": state["beta"]}, state=state, metrics={**metrics, "converged": 0.0})
            return
        step, inverse = solved(point, self.terms)
        close = float(-(point.gradient @ step)) <= CLOSE * point.unit
        arrays = {"coefficients": beta + step}
        if close:
            told = {"table": self.asking.table, "sites": [*found], "left_out": dict(left_out), "rows": point.rows}
            coefficients, covariance = self._back(beta + step, inverse * point.unit, state["middle"], state["scale"])
            lines = lines_of(self.terms, coefficients, covariance, self.ratio)
            told |= self.document(point) | {"rounds": round.number, "terms": lines}
            told |= shown(lines, self.ratio, point.rows)
            arrays = written(told, {"coefficients": coefficients, "covariance": covariance})
        state |= {"kept": beta, "step": step, "beta": beta + step}
        state |= {"loss": np.array([point.loss]), "rows": np.array([point.rows], np.int64)}
        await round.commit(arrays, state=state, metrics={**metrics, "converged": float(close)})

    async def _begin(self, fleet: Fleet) -> dict[str, Array]:
        """Return where it begins: at 0, with the columns standardised so that no digits are lost."""
        middle, scale = await scales(fleet, self.asking, self.columns)
        nothing = np.zeros(len(self.terms))
        place = dict.fromkeys(("beta", "kept", "step"), nothing)
        nowhere = {"loss": np.zeros(1), "rows": np.array([-1], np.int64)}  # no answer has -1 rows
        return {"middle": middle, "scale": scale, **place, **nowhere}

    def _back(self, beta: Array, covariance: Array, middle: Array, scale: Array) -> tuple[Array, Array]:
        """Return coefficients and covariance for the columns as they are in the tables."""
        first = int(self.intercept)
        turn = np.eye(len(beta))
        for place in range(len(self.columns)):
            turn[first + place, first + place] = 1.0 / scale[place]
            if self.intercept:
                turn[0, first + place] = -middle[place] / scale[place]
        return turn @ beta, turn @ covariance @ turn.T


def solved(point: Point, terms: Sequence[str]) -> tuple[Array, Array]:
    """Return Newton's step -H^-1 g, float64 (p,), and H^-1 (p, p). Raises `JobFailed` where H is singular."""
    size = np.sqrt(np.maximum(np.diag(point.hessian), 0.0))
    empty = [name for name, it in zip(terms, size, strict=True) if it == 0]
    if empty:
        raise JobFailed(
            f"no row tells anything about {', '.join(empty)}",
            why="a column has the same value in all rows, or no row has a value of a category",
            fix="leave it out",
        )
    values, vectors = np.linalg.eigh(point.hessian / np.outer(size, size))
    if values[0] <= SINGULAR * values[-1]:
        names = [name for name, it in zip(terms, vectors[:, 0], strict=True) if abs(it) > 0.05]
        raise JobFailed(
            f"the coefficients of {', '.join(names)} cannot be told apart",
            why="one of them follows from the others, or together they tell the outcome without error (separation)",
            fix="leave one of them out",
        )
    inverse = (vectors / values) @ vectors.T / np.outer(size, size)
    return -(inverse @ point.gradient), inverse


def lines_of(terms: Sequence[str], coefficients: Array, covariance: Array, ratio: str) -> list[dict[str, Any]]:
    """Return what is told of each coefficient: Wald's z, two-sided p, and 95 % limits, by the normal distribution."""
    found = []
    for place, name in enumerate(terms):
        value, error = float(coefficients[place]), math.sqrt(max(float(covariance[place, place]), 0.0))
        z = value / error if error > 0 else 0.0
        low, high = value - Z95 * error, value + Z95 * error
        line: dict[str, Any] = {"term": name, "coefficient": value, "standard_error": error, "z": z, "p": two_sided(z)}
        line |= {"low": low, "high": high}
        if ratio:
            names = (ratio, f"{ratio}_low", f"{ratio}_high")
            line |= {it: math.exp(min(one, 700.0)) for it, one in zip(names, (value, low, high), strict=True)}
        found.append(line)
    return found


def shown(lines: Sequence[Mapping[str, Any]], ratio: str, rows: int) -> dict[str, Any]:
    """Return the table and the picture of coefficients."""
    heads = ["coefficient", "standard_error", "z", "p", "low", "high", *[ratio] * bool(ratio)]
    table = {
        "title": f"coefficients over {rows} rows, with 95 % limits",
        "heads": ["term", *(head.replace("_", " ") for head in heads)],
        "rows": [[line["term"], *(f"{line[head]:.6g}" for head in heads)] for line in lines],
    }
    drawn = [line for line in lines if line["term"] != "intercept"]
    picture = {
        "kind": "intervals",
        "name": "coefficients",
        "x": "log " + ratio.replace("_", " ") if ratio else "coefficient",
        "labels": [line["term"] for line in drawn],
        **{
            key: [line[name] for line in drawn]
            for key, name in (("middle", "coefficient"), ("low", "low"), ("high", "high"))
        },
    }
    return {"tables": [table], "pictures": [picture] if drawn else []}
