"""A site's part of the workflow `statistics`: what the rules of its policy let leave.

It is Convoy's own code, so a job that asks for statistics brings none. The table is read twice, in blocks: once for the
values to group by and the parts of each column, once for moments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.errors import Refused
from convoy.privacy import cells
from convoy.privacy.cells import SUPPRESSED, Parts
from convoy.spec.tables import TableRules
from convoy.worker.replies import Reply
from convoy.worker.table import Block, Table, open_table, word

if TYPE_CHECKING:
    from convoy.worker.tasks import Task

MAX_CELLS: Final = 1 << 20  # of one column in memory: beyond that its values are released apart by fewer digits
MAX_VALUES: Final = 10_000  # that a column to group by may have: one with more names rows, not groups

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a task asks for; `groups` None: all values of `by` that may be released."""

    columns: Sequence[str]
    by: str
    groups: Sequence[str] | None
    parts: bool
    pairs: bool
    extremes: bool


@dataclass(slots=True)
class Moments:
    """Count, mean and sum of squared deviations of each column; missing values do not count. float64 (columns,)."""

    count: Array
    mean: Array
    m2: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Return those of rows (rows, columns), two passes over them."""
        there = ~np.isnan(values)
        count = there.sum(0)
        mean = np.where(there, values, 0.0).sum(0) / np.maximum(count, 1)
        apart = np.where(there, values - mean, 0.0)
        low, high = np.where(there, values, np.inf).min(0, initial=np.inf), np.where(there, values, -np.inf)
        return cls(count, mean, (apart * apart).sum(0), low, high.max(0, initial=-np.inf))

    def add(self, more: Moments) -> None:
        """Add those of further rows (Chan, Golub, LeVeque, 1983, equations 2.1)."""
        count = self.count + more.count
        delta, share = more.mean - self.mean, more.count / np.maximum(count, 1)
        self.m2 = self.m2 + more.m2 + delta * delta * self.count * share
        self.mean = self.mean + delta * share
        self.count, self.low, self.high = count, np.minimum(self.low, more.low), np.maximum(self.high, more.high)


@dataclass(slots=True)
class Pairs:
    """Moments of each pair of columns over the rows that have both; entry [i, j] is of column i. (columns, columns)."""

    count: Array
    mean: Array
    m2: Array
    comoment: Array

    @classmethod
    def of(cls, values: Array) -> Pairs:
        """Return those of rows (rows, columns), about the mean of each pair."""
        there = (~np.isnan(values)).astype(np.float64)
        count = there.T @ there
        centre = np.where(there.any(0), np.where(there > 0, values, 0.0).sum(0) / np.maximum(there.sum(0), 1), 0.0)
        apart = np.where(there > 0, values - centre, 0.0)  # about the column's mean first, so that nothing cancels
        n = np.maximum(count, 1)
        shift = apart.T @ there / n
        return cls(
            count.astype(np.int64),
            centre[:, None] + shift,
            np.maximum((apart * apart).T @ there - count * shift * shift, 0.0),
            apart.T @ apart - count * shift * shift.T,
        )

    def add(self, more: Pairs) -> None:
        """Add those of further rows (Chan, Golub, LeVeque, 1983)."""
        count = self.count + more.count
        delta, share = more.mean - self.mean, more.count / np.maximum(count, 1)
        self.m2 = self.m2 + more.m2 + delta * delta * self.count * share
        self.comoment = self.comoment + more.comoment + delta * delta.T * self.count * share
        self.mean = self.mean + delta * share
        self.count = count


class Cells:
    """How many rows have a value in each cell of a column; memory is bounded by `MAX_CELLS`."""

    def __init__(self) -> None:
        """Begin with no rows."""
        self.bits = cells.BITS
        self.low, self.counts = np.zeros(0), np.zeros(0, np.int64)

    def add(self, values: Array) -> None:
        """Count values, float64 (rows,), none of them missing."""
        low, counts = np.unique(cells.floors(values, self.bits), return_counts=True)
        self._set(np.concatenate([self.low, low]), np.concatenate([self.counts, counts]))
        while len(self.low) > MAX_CELLS:
            self.bits -= 1
            self._set(cells.floors(self.low, self.bits), self.counts)

    def _set(self, low: Array, counts: Array) -> None:
        self.low, places = np.unique(low, return_inverse=True)
        self.counts = np.zeros(len(self.low), np.int64)
        np.add.at(self.counts, places, counts)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What the first reading found: the rows, the groups that may be released, and the parts of each column.

    `released`: booleans (groups, columns), whether the moments of a group in a column may be released.
    """

    rows: int
    groups: Mapping[str, int]  # rows of each that may be released, in order
    released: Array
    parts: Sequence[Parts]


def statistics(task: Task) -> Reply:
    """Return the reply to a task of the workflow `statistics`; see `convoy.flows.statistics.wanted`.

    Raises `BadInput` for a table or a column that is not there or cannot be read, and `Refused` for a table that has
    too few rows for the site's policy.
    """
    given = task.settings
    asked = Asked(**{key: given[key] for key in ("columns", "by", "groups", "parts", "pairs", "extremes")})
    table, rules = open_table(task.data[given["table"]]), task.tables.get(given["table"], TableRules())
    found = _survey(table, asked, rules)
    if found.rows < rules.minimum_count:
        raise Refused(
            f"table {given['table']!r} has too few rows here",
            why=f"the policy of {task.site} lets nothing leave that is over fewer than {rules.minimum_count} rows",
        )
    if asked.by and not found.groups and asked.groups is None:
        raise Refused(
            f"no value of {asked.by!r} may be released here",
            why=f"none has {rules.minimum_count} rows, the least by the policy of {task.site}",
            fix="group by a column with fewer values",
        )
    groups = list(found.groups) if asked.groups is None else list(asked.groups)
    return Reply(
        _measure(table, asked, rules, found, groups), value={"groups": groups} if asked.groups is None else None
    )


def _blocks(table: Table, asked: Asked) -> Iterator[tuple[Block, Sequence[str]]]:
    for block in table.blocks(asked.columns, [asked.by] if asked.by else []):
        yield block, block.texts.get(asked.by, ())


def _survey(table: Table, asked: Asked, rules: TableRules) -> Surveyed:
    """Read the table once: count the rows of each group, and of each cell of each column."""
    width, rows = len(asked.columns), 0
    counts: dict[str, Array] = {}
    fine = [Cells() for _ in asked.columns]
    for block, texts in _blocks(table, asked):
        there = ~np.isnan(block.numbers)
        rows += len(there)
        for place, column in enumerate(fine if asked.parts else ()):
            column.add(block.numbers[there[:, place], place])
        if asked.by:
            values: dict[str, int] = {}
            codes = [values.setdefault(value, len(values)) for value in texts]
            found = np.zeros((len(values), width + 1), np.int64)
            np.add.at(found, codes, np.column_stack([np.ones(len(there), np.int64), there]))
            for value, more in zip(values, found, strict=True):
                counts[value] = counts.get(value, 0) + more
        if len(counts) > MAX_VALUES:
            raise Refused(f"column {asked.by!r} has more than {MAX_VALUES:,} values", fix="group by another column")
    parts = [cells.parts(one.low, one.counts, rules.minimum_count, one.bits) for one in fine]
    names = sorted(counts)
    each = np.stack([counts[name] for name in names]) if names else np.zeros((0, width + 1), np.int64)
    may = cells.released(each[:, 0], rules.minimum_count, np.array([name != "" for name in names], bool))
    released = [cells.released(each[:, 1 + place], rules.minimum_count, may) for place in range(width)]
    groups = {name: int(each[place, 0]) for place, name in enumerate(names) if may[place]}
    return Surveyed(rows, groups, np.stack(released, axis=1)[may] if width else np.zeros((len(groups), 0), bool), parts)


def _measure(table: Table, asked: Asked, rules: TableRules, found: Surveyed, groups: Sequence[str]) -> dict[str, Array]:
    """Read the table again: moments of all rows and of each group, of pairs, and the parts of each group."""
    names, width = list(found.groups), len(asked.columns)
    places = {name: place for place, name in enumerate(names)}
    nothing = np.zeros((0, width))
    moments = [Moments.of(nothing) for _ in range(1 + len(names))]
    pairs = Pairs.of(nothing)
    grouped = [np.zeros((len(one.low), len(names) + 1), np.int64) for one in found.parts]
    for block, texts in _blocks(table, asked):
        moments[0].add(Moments.of(block.numbers))
        if asked.pairs:
            pairs.add(Pairs.of(block.numbers))
        if not names:
            continue
        codes = np.array([places.get(value, len(names)) for value in texts])
        for code in np.unique(codes[codes < len(names)]).tolist():
            moments[1 + code].add(Moments.of(block.numbers[codes == code]))
        for place, one in enumerate(found.parts if asked.parts else ()):
            there = ~np.isnan(block.numbers[:, place])
            if len(one.low):
                np.add.at(grouped[place], (one.places(block.numbers[there, place]), codes[there]), 1)
    order = [places.get(word(name), len(names)) for name in groups]
    answer = _released_moments(moments, found, rules, order, extremes=asked.extremes and rules.extremes)
    if asked.pairs:
        answer |= _released_pairs(pairs, moments[0].count, rules)
    if asked.parts:
        answer |= _released_parts(found, grouped, rules, order)
    return answer


def _released_moments(
    moments: Sequence[Moments], found: Surveyed, rules: TableRules, order: Sequence[int], *, extremes: bool
) -> dict[str, Array]:
    """Return the moments of all rows, then of the groups asked for; those that may not be released are suppressed."""
    least, width = rules.minimum_count, len(moments[0].count)
    nobody = Moments.of(np.zeros((0, width)))
    listed = [moments[0], *(moments[1 + place] if place < len(found.groups) else nobody for place in order)]
    sizes = [*found.groups.values(), SUPPRESSED]
    released = np.stack(
        [
            moments[0].count >= least,
            *(np.append(found.released, np.zeros((1, width), bool), 0)[place] for place in order),
        ]
    )
    rows = np.array([found.rows, *(sizes[place] for place in order)], np.int64)

    def of(name: str, *, shown: bool = True) -> Array:
        whole = np.stack([getattr(one, name) for one in listed]).astype(np.float64)
        return cells.rounded(np.where(released & shown, whole, 0.0), rules.digits)

    counts = np.where(released, np.stack([one.count for one in listed]), SUPPRESSED)
    return {
        "rows": cells.rounded_counts(rows, rules.digits, least),
        "minimum": np.array([least], np.int64),
        "extremes": np.array([extremes], np.int64),
        "moments.count": cells.rounded_counts(counts, rules.digits, least),
        "moments.mean": of("mean"),
        "moments.m2": of("m2"),
        "moments.min": of("low", shown=extremes),
        "moments.max": of("high", shown=extremes),
    }


def _released_pairs(pairs: Pairs, each: Array, rules: TableRules) -> dict[str, Array]:
    """Return the moments of each pair of columns that may be released beside those of both columns."""
    least = rules.minimum_count
    released = cells.subset(each[:, None], pairs.count, least) & cells.subset(each[None, :], pairs.count, least)
    counts = np.where(released, pairs.count, SUPPRESSED)
    floats = {"mean": pairs.mean, "m2": pairs.m2, "comoment": pairs.comoment}
    return {
        "pairs.count": cells.rounded_counts(counts, rules.digits, least),
        **{f"pairs.{name}": cells.rounded(np.where(released, it, 0.0), rules.digits) for name, it in floats.items()},
    }


def _released_parts(
    found: Surveyed, grouped: Sequence[Array], rules: TableRules, order: Sequence[int]
) -> dict[str, Array]:
    """Return the parts of each column (group -1), and larger ones with the rows of each group that was asked for."""
    listed: list[tuple[int, int, Parts, Array]] = []
    for column, whole in enumerate(found.parts):
        listed.append((column, -1, whole, whole.counts))
        released = np.flatnonzero(found.released[:, column])
        if not released.size:
            continue
        rest = grouped[column].sum(1) - grouped[column][:, released].sum(1)
        pieces = np.column_stack([grouped[column][:, released], *([rest] if rest.any() else [])])
        larger, rows = whole.joined(pieces, rules.minimum_count)
        at = {int(code): place for place, code in enumerate(released)}
        listed += [(column, group, larger, rows[:, at[code]]) for group, code in enumerate(order) if code in at]
    sizes = [len(one.low) for _, _, one, _ in listed]
    counts = np.concatenate([rows for *_, rows in listed]) if listed else np.zeros(0, np.int64)
    return {
        "parts.column": np.repeat(np.array([column for column, *_ in listed], np.int64), sizes),
        "parts.group": np.repeat(np.array([group for _, group, *_ in listed], np.int64), sizes),
        "parts.low": np.concatenate([one.low for _, _, one, _ in listed]) if listed else np.zeros(0),
        "parts.high": np.concatenate([one.high for _, _, one, _ in listed]) if listed else np.zeros(0),
        "parts.count": cells.rounded_counts(counts, rules.digits, rules.minimum_count),
    }
