"""A partition as a value: the rows of each site, with their table and their picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convoy.errors import BadInput
from convoy.partition import checks
from convoy.partition.table import LABELS, Table

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """The rows of each site, as sorted index arrays; `axis` 1: its columns."""

    rows: tuple[Array, ...]  # int64, sorted, read-only: one array for each site
    labels: Array | None = None  # one for each row of the whole data set: for the table and the picture
    axis: int = 0  # 0: each site has some rows; 1: each site has all rows of some columns

    def __post_init__(self) -> None:
        """Sort the rows. Raises `BadInput` for what is no index."""
        object.__setattr__(self, "rows", tuple(_indices(one, place) for place, one in enumerate(self.rows, 1)))
        if not self.rows:
            raise BadInput("a partition has no sites", fix="give the rows of at least one site")
        if self.labels is not None:
            checks.one_each(self.labels, "labels")
            if self.axis == 0 and self.end > len(self.labels):
                raise BadInput(f"the partition has row {self.end - 1}, and there are {len(self.labels)} labels")

    def __len__(self) -> int:
        """Return the number of sites."""
        return len(self.rows)

    @property
    def end(self) -> int:
        """The number after the last row of any site."""
        return max((int(rows[-1]) + 1 for rows in self.rows if len(rows)), default=0)

    def labelled(self, labels: Any) -> Partition:
        """Return the same partition with labels, which the table and the picture count."""
        return Partition(self.rows, np.asarray(labels), self.axis)

    def table(self) -> Table:
        """Return the rows of each site, and of each label where there are at most 100 labels."""
        counts = np.array([len(rows) for rows in self.rows], dtype=np.int64)
        if self.axis == 1:
            return Table(counts, unit="columns")
        found = None if self.labels is None else checks.labels(self.labels)
        if found is None or len(found.names) > LABELS:
            return Table(counts)
        codes = np.repeat(np.arange(len(self.rows)), counts) * len(found.names) + found.codes[np.concatenate(self.rows)]
        shape = len(self.rows), len(found.names)
        return Table(counts, found.names, np.bincount(codes, minlength=shape[0] * shape[1]).reshape(shape))

    def draw(self, path: Path | str, *, title: str = "") -> None:
        """Draw rows by site, and labels by site where they are known, into a PNG file.

        Needs matplotlib. Raises `BadInput` where it is not installed.
        """
        from convoy.partition import picture  # matplotlib takes a second to load

        picture.draw(self.table(), Path(path), title=title)


def _indices(rows: Any, place: int) -> Array:
    found = np.asarray(rows)
    if not found.size:
        found = found.astype(np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu" or (found.size and found.min() < 0):
        raise BadInput(f"site {place} of the partition has no list of row numbers", fix="give whole numbers from 0 up")
    found = np.sort(found.astype(np.int64))
    if (found[1:] == found[:-1]).any():
        raise BadInput(f"site {place} of the partition has a row twice", fix="name each row of a site once")
    found.setflags(write=False)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Arrays by name, all with one row for each example, and which site has which of their rows."""

    arrays: Mapping[str, Array]
    partition: Partition

    def __post_init__(self) -> None:
        """Raise `BadInput` where the arrays do not have as many rows as the partition divides, or as each other."""
        if self.partition.axis:
            raise BadInput("a partition of columns cannot divide arrays by rows", fix="use one of rows")
        rows = rows_of({name: array.shape for name, array in self.arrays.items()})
        if self.partition.end > rows:
            raise BadInput(f"the partition has row {self.partition.end - 1}, and the arrays have {rows} rows")


def rows_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many rows arrays of these shapes have. Raises `BadInput` where the numbers differ."""
    rows = {shape[0] if shape else -1 for shape in shapes.values()}
    if len(rows) != 1 or -1 in rows:
        seen = ", ".join(f"{name}: {shape}" for name, shape in shapes.items()) or "there are none"
        raise BadInput("the arrays do not have the same number of rows", why=seen, fix="give one row for each example")
    return rows.pop()
