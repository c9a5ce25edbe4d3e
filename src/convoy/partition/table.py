"""How many rows each site holds, in all and of each label: as text, as CSV, and as plain rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

LABELS: Final = 100  # with more labels than these, a table counts rows alone
SHOWN: Final = 40  # sites that the text shows; the CSV has all of them


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The rows of each site, and how many of them have each label; prints as an aligned text."""

    counts: np.ndarray[Any, Any]  # int64, one for each site
    labels: tuple[str, ...] = ()  # in order; none where the labels are not known, or are too many
    by_label: np.ndarray[Any, Any] | None = None  # int64, sites x labels; None where there are no `labels`
    unit: str = "rows"

    def rows(self, names: Sequence[str] = ()) -> list[tuple[str | int, ...]]:
        """Return (site, rows, then rows of each label) for each site; `names`: of the sites, instead of numbers."""
        sites: Sequence[str | int] = names or range(1, len(self.counts) + 1)
        if self.by_label is None:
            return [(site, int(count)) for site, count in zip(sites, self.counts, strict=True)]
        several = zip(sites, self.counts.tolist(), self.by_label.tolist(), strict=True)
        return [(site, count, *each) for site, count, each in several]

    def csv(self, names: Sequence[str] = ()) -> str:
        """Return the rows as CSV with a header."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("site", self.unit, *self.labels))
        writer.writerows(self.rows(names))
        return text.getvalue()

    def __str__(self) -> str:
        lines: list[tuple[str | int, ...]] = [("site", self.unit, *self.labels)]
        found = self.rows()
        lines += found if len(found) <= SHOWN else found[: SHOWN - 1]
        if len(found) > SHOWN:
            lines.append((f"… {len(found) - SHOWN:,} more", *[""] * (len(found[0]) - 1)))
            lines.append(found[-1])
        if self.unit == "rows":
            lines.append(("all", int(self.counts.sum()), *(self._sums())))
        cells = [[str(cell) for cell in line] for line in lines]
        wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, wide, strict=True)) for line in cells)

    def _sums(self) -> list[int]:
        return [] if self.by_label is None else [int(count) for count in self.by_label.sum(axis=0)]
