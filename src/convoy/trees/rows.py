"""A site's rows as trees take them: float32, with labels that the job knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.errors import BadInput
from convoy.model.splits import MAX_LABEL

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


def features_of(x: Any, features: int) -> Array:
    """Return X as float32 (rows, features); NaN is missing. Raises `BadInput` for another shape, and for infinity."""
    found = np.asarray(x)
    if found.ndim != 2 or found.shape[1] != features:
        shape = f"{found.shape[1]} columns" if found.ndim == 2 else f"{found.ndim} dimensions"
        raise BadInput(
            f"X has {shape} at this site",
            why=f"the job says `features: {features}`",
            fix="give the same columns in the same order at every site, and their number in job.yaml",
        )
    try:
        with np.errstate(over="ignore"):
            found = found.astype(np.float32)
    except (TypeError, ValueError) as problem:
        raise BadInput(f"X is not numbers: {problem}", fix="turn categories and dates into numbers first") from problem
    if np.isinf(found).any():
        column = int(np.flatnonzero(np.isinf(found).any(axis=0))[0])
        raise BadInput(
            f"column {column} of X has values that are infinite, or too large for a float32",
            fix="write NaN for a missing value, or scale the column",
        )
    return found


def labels_of(y: Any, rows: int, kind: str, classes: int) -> Array:
    """Return y as float32 (rows,). Raises `BadInput` for another length, and for labels that the job does not know.

    `kind`: as in `convoy.model.trees`; `classes`: how many labels there are, where they are classes.
    """
    try:
        found = np.asarray(y, np.float64)
    except (TypeError, ValueError) as problem:
        raise BadInput(f"y is not numbers: {problem}", fix="give classes as numbers from 0") from problem
    if found.shape != (rows,) or not rows:
        raise BadInput(f"y has the shape {list(found.shape)}, and X has {rows} rows", fix="give a label for each row")
    if kind in ("reg:squarederror", "mean"):
        bad = ~(abs(found) <= MAX_LABEL)
        wanted = f"finite numbers up to {MAX_LABEL:g}"
    else:
        bad = ~((found == np.floor(found)) & (found >= 0) & (found < classes))
        wanted = f"whole numbers from 0 to {classes - 1}"
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise BadInput(
            f"the label of row {row} is {found[row]:g} at this site",
            why=f"the job wants {wanted}",
            fix="number the classes alike at all sites, or change `classes` or `objective` in job.yaml",
        )
    return found.astype(np.float32)


def classes_of(kind: str, outputs: int) -> int:
    """Return how many labels there are: 2 for `binary:logistic`, which has one output."""
    return 2 if kind == "binary:logistic" else outputs
