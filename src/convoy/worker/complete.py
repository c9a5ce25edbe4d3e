"""The complete rows of a table, for fits: those in which no column that is asked for is missing.

A fit is asked many times, each time with other parameters, so a policy with `only: statistics` does not admit it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.errors import BadInput, Refused
from convoy.spec.tables import STATISTICS, TableRules
from convoy.worker.table import Block, Table, open_table, word

if TYPE_CHECKING:
    from convoy.worker.tasks import Task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some complete rows.

    `numbers`: float64 (rows, columns); `levels`: whether a row has each value of each categorical column, booleans
    (rows, values of all of them); `texts`: the other columns of text; `places`: the number of each row, from 1.
    """

    numbers: Array
    levels: Array
    texts: Mapping[str, Sequence[str]]
    places: Array


def opened(task: Task) -> tuple[Table, TableRules]:
    """Return the table that a task names and the rules for it. Raises `BadInput`, and `Refused` by its policy."""
    name = task.settings["table"]
    rules = task.tables.get(name, TableRules())
    if rules.only == STATISTICS:
        raise Refused(
            f"table {name!r} is kept for statistics here",
            why=f"the policy of {task.site} has `only: statistics` for it; a {task.kind!r} question is a fit",
            fix="ask the owner of the site for `only: analytics`, or use `workflow: statistics` or `workflow: pca`",
        )
    return open_table(task.data[name]), rules


def complete(
    table: Table, numbers: Sequence[str], categories: Mapping[str, Sequence[str]], texts: Sequence[str] = ()
) -> Iterator[Rows]:
    """Yield the complete rows in blocks; `categories`: the values of each categorical column.

    Raises `BadInput` for a column that is not there or cannot be read, and for a value that is not in its list.
    """
    for block in table.blocks(numbers, [*categories, *texts]):
        keep: Array = np.isfinite(block.numbers.sum(1))  # NaN where a value is missing; others are at most 1e100
        for name in (*categories, *texts):
            keep = keep & np.array([text != "" for text in block.texts[name]], bool)
        levels = [_levels(block, name, values, keep) for name, values in categories.items()]
        whole = np.concatenate(levels, axis=1) if levels else np.zeros((len(keep), 0), bool)
        words = {name: [text for text, kept in zip(block.texts[name], keep, strict=True) if kept] for name in texts}
        yield Rows(block.numbers[keep], whole[keep], words, block.first + 1 + np.flatnonzero(keep))


def _levels(block: Block, name: str, values: Sequence[str], keep: Array) -> Array:
    known = {word(value): place for place, value in enumerate(values)}
    codes = np.array([known.get(text, -1) for text in block.texts[name]], np.int64)
    if (strange := keep & (codes < 0)).any():
        raise BadInput(
            f"column {name!r} has a value that is not among those that the job gives",
            why=f"row {block.first + 1 + int(np.argmax(strange))} of the table, the header not counted, has it",
            fix=f"give all values of the column: `categories: {{{name}: [...]}}`",
        )
    found: Array = codes[:, None] == np.arange(len(values))
    return found


def enough(rows: int, task: Task, rules: TableRules) -> None:
    """Raise `Refused` where there are fewer complete rows than the site's policy wants."""
    if rows < rules.minimum_count:
        raise Refused(
            f"table {task.settings['table']!r} has too few complete rows here",
            why=f"the policy of {task.site} lets nothing leave that is over fewer than {rules.minimum_count} rows",
        )


def exact(task: Task, rules: TableRules) -> None:
    """Raise `Refused` where the policy rounds numbers: Newton steps with rounded sums do not come to an end."""
    if rules.digits:
        raise Refused(
            f"the numbers of table {task.settings['table']!r} leave rounded here",
            why=f"the policy of {task.site} has `digits: {rules.digits}`, and Newton steps need exact sums",
            fix="leave the site out, or ask its owner for a rule without `digits`",
        )


class Support:
    """How many rows each sum is over: of indicators (columns of two values, and of categories), and of pairs of them.

    A sum over rows with a column in it is a sum over the rows where that column is not 0. So a column that is 0 in all
    rows but one gives that row away, and so do two indicators that meet in one row.
    """

    def __init__(self, low: Array, high: Array, levels: int) -> None:
        """Begin with no rows; `low` and `high`: the least and the greatest value of each column, float64 (columns,)."""
        self._low, self._high = low, high
        width = 3 * len(low) + levels
        self.rows = 0
        self._together = np.zeros((width, width), np.int64)

    def add(self, numbers: Array, levels: Array) -> None:
        """Count rows: float64 (rows, columns) and booleans (rows, levels)."""
        found = np.column_stack([numbers != 0, numbers == self._low, numbers == self._high, levels]).astype(np.float64)
        self._together += (found.T @ found).astype(np.int64)  # exact: a block has fewer rows than 2^53
        self.rows += len(numbers)

    def smallest(self) -> int:
        """Return the rows of the smallest sum that is over any rows."""
        width, own = len(self._low), self._together.diagonal()
        two = own[width : 2 * width] + own[2 * width : 3 * width] == self.rows
        two &= self._low < self._high
        used = np.concatenate([~two, two, two, np.ones(len(own) - 3 * width, bool)])
        counts = self._together[np.ix_(used, used)]
        return int(min(counts[counts > 0].min(initial=self.rows), self.rows))


def extremes(blocks: Iterator[Rows], width: int) -> tuple[int, Array, Array]:
    """Return how many rows there are, and the least and the greatest value of each column, float64 (columns,)."""
    rows, low, high = 0, np.full(width, np.inf), np.full(width, -np.inf)
    for block in blocks:
        rows += len(block.numbers)
        low = np.minimum(low, block.numbers.min(0, initial=np.inf))
        high = np.maximum(high, block.numbers.max(0, initial=-np.inf))
    return rows, low, high


def supported(smallest: int, task: Task, rules: TableRules) -> Array:
    """Return the count that says over how many rows the smallest sum is, int64 (1,). Raises `Refused` if too few."""
    if smallest < rules.minimum_count:
        raise Refused(
            f"a sum over table {task.settings['table']!r} would be over fewer than {rules.minimum_count} rows here",
            why="a column, a value of a category or of the outcome, or two of them together, occurs in too few rows",
            fix="leave out the column or join rare values; or leave out this site",
        )
    return np.array([smallest], np.int64)


def balanced(weights: float, largest: float, task: Task) -> None:
    """Raise `Refused` where one row has more than half of the weight of all: a sum would be nearly that row."""
    if largest > weights / 2:
        raise Refused(
            "a single row has more than half of the weight in a sum",
            why="the coefficients are extreme; perhaps no finite ones are best, since the columns separate the outcome",
            fix=f"use fewer columns, or leave out {task.site}",
        )
