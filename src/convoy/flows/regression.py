"""Logistic and linear regression over tables at the sites, by Newton's method on sums."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convoy.flows import fitting, parameters
from convoy.flows.fitting import Asking, Shapes, counted, total
from convoy.flows.fleet import Fleet
from convoy.flows.newton import Fit, Point

Array = np.ndarray[Any, Any]


async def logistic(
    fleet: Fleet,
    *,
    table: str,
    outcome: str,
    columns: list[str] = [],  # noqa: B006 - shown in the reference, and never changed
    categories: dict[str, list[str]] = {},  # noqa: B006
    positive: str = "",
    rounds: int = 25,
    min_sites: int = 1,
    deadline: str | float = "",
) -> None:
    """Fit a logistic regression with an intercept to the rows of all sites, with standard errors; no `trainer`.

    `outcome`: a column of 0 and 1, or of text, of which `positive` is the value that counts as 1. `columns`: columns of
    numbers; `categories`: columns of text with all their values, such as `{stage: [I, II, III]}`, each of which is
    compared with the first. Rows in which any of these is missing do not count. The fit is the pooled one, to rounding.
    It ends when a step is a 1e-9th of a standard error, and fails after `rounds`. The result is `statistics.json`, and
    the arrays `coefficients` float64 (p,) and `covariance` float64 (p, p).

    Equation: beta' = beta - (sum_k H_k)^-1 sum_k g_k
        g_k = X_k^T (p_k - y_k);  H_k = X_k^T diag(p_k (1 - p_k)) X_k;  p_k = 1 / (1 + exp(-X_k beta))

    Use it: for odds ratios with limits and p-values, over data that cannot be pooled.

    Leaves the site: mean and standard deviation of each column; in each round the loss, its gradient and its Hessian.
    Each is over at least as many rows as the site's policy says. So is each value of a category, of a column of two
    values and of the outcome, and each pair of these. A site is left out where one row has more than half of the
    weight of the Hessian.

    Paper: McCullagh, Nelder: Generalized Linear Models, 1989, section 2.5. In sums of sites: Wu et al.: Grid Binary
    LOgistic REgression (GLORE), 2012.
    """
    given = {"columns": columns, "categories": categories, "outcome": outcome, "positive": positive}
    await _fit(fleet, "logistic", Asking.of(table, min_sites, deadline), given, rounds)


async def linear(
    fleet: Fleet,
    *,
    table: str,
    outcome: str,
    columns: list[str] = [],  # noqa: B006
    categories: dict[str, list[str]] = {},  # noqa: B006
    min_sites: int = 1,
    deadline: str | float = "",
) -> None:
    """Fit a linear regression with an intercept to the rows of all sites, with standard errors; no `trainer`.

    The parameters are those of `logistic`; `outcome` is a column of numbers. The first round solves the normal
    equations, and later ones remove what was lost to rounding. z, p and limits are those of the normal distribution.

    Equation: (sum_k X_k^T X_k) beta = sum_k X_k^T y_k;  covariance = s^2 (sum_k X_k^T X_k)^-1
        s^2 = sum_k |y_k - X_k beta|^2 / (n - p)

    Use it: for the effect of columns on a number, over data that cannot be pooled.

    Leaves the site: what leaves it in `logistic`, with the sum of squared residuals in place of the loss.

    Paper: McCullagh, Nelder: Generalized Linear Models, 1989, chapter 3.
    """
    given = {"columns": columns, "categories": categories, "outcome": outcome, "positive": ""}
    await _fit(fleet, "linear", Asking.of(table, min_sites, deadline), given, rounds=5)


async def _fit(fleet: Fleet, family: str, asking: Asking, given: Mapping[str, Any], rounds: int) -> None:
    parameters.require(wrong({**given, "rounds": rounds, "min_sites": asking.min_sites}))

    def point(each: Sequence[Mapping[str, Array]], _: Array) -> Point:
        rows = int(counted([it["rows"] for it in each])[0])
        gradient, hessian = (total([it[name] for it in each]) for name in ("gradient", "hessian"))
        loss = float(total([it["loss"] for it in each])[0])
        free = max(rows - len(gradient), 1)
        unit = 1.0 if family == "logistic" else max(2.0 * loss / free, math.ulp(0.0))
        return Point(loss, gradient, (hessian + hessian.T) / 2, rows, unit)

    def document(at: Point) -> dict[str, Any]:
        if family == "logistic":
            return {"outcome": given["outcome"], "log_likelihood": -at.loss}
        return {"outcome": given["outcome"], "residual_variance": at.unit}

    await Fit(
        asking,
        "regression",
        {"family": family, **given},
        given["columns"],
        given["categories"],
        intercept=True,
        reply=_shapes,
        point=point,
        document=document,
        ratio="odds_ratio" if family == "logistic" else "",
    ).run(fleet, rounds)


def _shapes(width: int) -> Shapes:
    counts: Shapes = {"rows": ("i8", (1,)), "smallest.count": ("i8", (1,)), "loss": ("f8", (1,))}
    return {**counts, "gradient": ("f8", (width,)), "hessian": ("f8", (width, width))}


def wrong(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with these parameters, by name."""
    found = fitting.faults(given, least=0)
    named = [*(given.get("columns") or []), *(given.get("categories") or {})]
    if not named and not found:
        found["columns"] = "wanted a column, here or in `categories`"
    if given.get("outcome") in named:
        found["outcome"] = "wanted a column that is not among `columns` and `categories`"
    return found
