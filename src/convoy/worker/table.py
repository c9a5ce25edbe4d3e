"""A table at a site: the columns of a CSV, Parquet or npz file, read in blocks: memory does not grow with the file.

What is raised here may leave the site: it names files, lines and columns, and never what stands in a cell.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from zipfile import BadZipFile

import numpy as np

from convoy.errors import BadInput
from convoy.flows.source import near
from convoy.privacy.cells import LARGEST

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS: Final = 1 << 15  # of a block
EXACT: Final = 2.0**53  # below it each whole number is a float
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]*)\.0+")
MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none"})  # of a CSV, in small or capital letters

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows: `numbers` float64 (rows, columns), NaN where a value is missing; `texts`: by column, "" where it is.

    `first` is the number of rows before them.
    """

    numbers: Array
    texts: Mapping[str, Sequence[str]]
    first: int


class Table(Protocol):
    """A table with named columns."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its columns, in their order."""

    def blocks(self, numbers: Sequence[str], texts: Sequence[str] = ()) -> Iterator[Block]:
        """Yield all rows of these columns in blocks, from the first on; it can be called again.

        Raises `BadInput` for a column that is not there, or has a cell that is no number within `LARGEST`, and for a
        file that cannot be read, each with its line where there is one.
        """


def open_table(path: str) -> Table:
    """Return the table in a file, by the ending of its name. Raises `BadInput`."""
    file = Path(path)
    kinds: dict[str, Callable[[Path], Table]] = {".csv": CsvTable, ".parquet": ParquetTable, ".npz": NpzTable}
    if file.suffix not in kinds:
        raise BadInput(f"{file.name} is not a table", fix=f"name a file that ends in {', '.join(kinds)}")
    return kinds[file.suffix](file)


def _known(file: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise `BadInput` for the first wanted column that a table does not have."""
    for name in wanted:
        if name not in names:
            shown = ", ".join(names[:50]) + (", …" if len(names) > 50 else "")
            meant = near(name, names)
            fix = meant if meant.endswith("?") else ""
            if len(names) == 1 and any(mark in shown for mark in ";\t"):  # how others write tables
                fix = "separate the columns of a CSV by commas, not by semicolons or tabs"
            raise BadInput(f"{file.name} has no column {name!r}", why=f"it has {shown or 'none at all'}", fix=fix)


def _no_number(file: Path, name: str, line: int, *, large: bool = True) -> BadInput:
    return BadInput(
        f"column {name!r} has a value that is {f'larger than {LARGEST:g}' if large else 'not a number'}",
        fix="name a column of numbers; missing values are empty cells, NA, NaN or null",
        where=f"{file.name}:{line}" if line else file.name,
    )


class CsvTable:
    """A CSV file in UTF-8: a header of different names, then a record of as many cells for each row."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises `BadInput`."""
        self._path = path
        with _readable(path):
            _, header = next(self._records(), (1, []))
        self.names: Sequence[str] = header
        if not header or len(set(header)) != len(header):
            raise BadInput(f"{path.name} has no header of different names", fix="begin with a line of column names")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line at which each record ends, and its cells; empty lines are no records."""
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                for cells in reader:
                    if cells:
                        yield reader.line_num, cells
            except csv.Error as problem:
                where = f"{self._path.name}:{reader.line_num}"
                raise BadInput("this is not CSV", why=str(problem), where=where) from problem

    def blocks(self, numbers: Sequence[str], texts: Sequence[str] = ()) -> Iterator[Block]:
        """Yield all rows of these columns in blocks; see `Table`."""
        _known(self._path, self.names, [*numbers, *texts])
        places = [(self.names.index(name), name) for name in numbers]
        words = {name: self.names.index(name) for name in texts}
        first, rows, values = 0, list[list[float]](), {name: list[str]() for name in texts}
        with _readable(self._path):
            records = self._records()
            next(records)
            for line, cells in records:
                if len(cells) != len(self.names):
                    why = f"it has {len(cells)}, and the header {len(self.names)}"
                    where = f"{self._path.name}:{line}"
                    raise BadInput("this record has another number of cells than the header", why=why, where=where)
                rows.append([self._number(cells[place], name, line) for place, name in places])
                for name, place in words.items():
                    text = cells[place].strip()
                    values[name].append("" if text.lower() in MISSING else word(text))
                if len(rows) == ROWS:
                    yield _block(rows, values, len(places), first)
                    first, rows, values = first + ROWS, [], {name: [] for name in texts}
            if rows:
                yield _block(rows, values, len(places), first)

    def _number(self, cell: str, name: str, line: int) -> float:
        text = cell.strip()
        if text.lower() in MISSING:
            return math.nan
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isnan(number) or "_" in text:
            raise _no_number(self._path, name, line, large=False)
        if abs(number) > LARGEST:
            raise _no_number(self._path, name, line)
        return number


def _block(rows: list[list[float]], texts: Mapping[str, list[str]], columns: int, first: int) -> Block:
    return Block(np.array(rows, np.float64).reshape(len(rows), columns), texts, first)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what a file system and a decoder raise into `BadInput`."""
    try:
        yield
    except OSError as problem:
        raise BadInput(f"{path.name} cannot be read", why=problem.strerror or type(problem).__name__) from problem
    except UnicodeDecodeError as problem:
        raise BadInput(f"{path.name} is not UTF-8 text", why="a byte of it is not", fix="save it as UTF-8") from problem


class ParquetTable:
    """A Parquet file, read with pyarrow."""

    def __init__(self, path: Path) -> None:
        """Read the names. Raises `BadInput`, also where pyarrow is not installed."""
        try:
            from pyarrow import ArrowException, parquet
        except ImportError as problem:
            fix = "run `pip install 'convoy-fl[tables]'` at this site, or give the table as CSV"
            raise BadInput(f"reading {path.name} needs pyarrow", why=str(problem), fix=fix) from problem
        self._path = path
        with _readable(path):
            try:
                self._file = parquet.ParquetFile(path, memory_map=True)
            except ArrowException as problem:
                raise BadInput(f"{path.name} is not a Parquet file", why=type(problem).__name__) from problem
        self.names: Sequence[str] = self._file.schema_arrow.names

    def blocks(self, numbers: Sequence[str], texts: Sequence[str] = ()) -> Iterator[Block]:
        """Yield all rows of these columns in blocks; see `Table`."""
        from pyarrow import ArrowException, types

        _known(self._path, self.names, [*numbers, *texts])
        for name in numbers:
            kind = self._file.schema_arrow.field(name).type
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)):
                raise BadInput(f"column {name!r} of {self._path.name} has the type {kind}, which is not a number")
        first = 0
        with _readable(self._path):
            try:
                for batch in self._file.iter_batches(batch_size=ROWS, columns=[*dict.fromkeys([*numbers, *texts])]):
                    arrays = [np.array(batch.column(name).to_pylist(), np.float64) for name in numbers]
                    numbers_ = np.stack(arrays, axis=1) if arrays else np.zeros((batch.num_rows, 0))
                    if (large := (np.abs(numbers_) > LARGEST).any(0)).any():
                        raise _no_number(self._path, numbers[int(np.argmax(large))], 0)
                    values = {name: [word(it) for it in batch.column(name).to_pylist()] for name in texts}
                    yield Block(numbers_, values, first)
                    first += batch.num_rows
            except ArrowException as problem:
                raise BadInput(f"{self._path.name} cannot be read", why=type(problem).__name__) from problem


class NpzTable:
    """An npz file of one array for each column, as a simulation writes one of what a function of the job made."""

    def __init__(self, path: Path) -> None:
        """Read the arrays. Raises `BadInput`."""
        self._path = path
        with _readable(path):
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    self._columns: Mapping[str, Array] = dict(arrays)
            except (ValueError, BadZipFile) as problem:
                raise BadInput(f"{path.name} is not an npz file of arrays", why=type(problem).__name__) from problem
        if len({array.shape for array in self._columns.values()}) != 1 or next(iter(self._columns.values())).ndim != 1:
            raise BadInput(f"{path.name} is not a table", fix="give one array of one dimension for each column")
        self.names: Sequence[str] = list(self._columns)

    def blocks(self, numbers: Sequence[str], texts: Sequence[str] = ()) -> Iterator[Block]:
        """Yield all rows of these columns in blocks; see `Table`."""
        _known(self._path, self.names, [*numbers, *texts])
        for name in numbers:
            if self._columns[name].dtype.kind not in "iufb":
                kind = self._columns[name].dtype
                raise BadInput(f"column {name!r} of {self._path.name} has the type {kind}, which is not a number")
            if (np.abs(self._columns[name].astype(np.float64)) > LARGEST).any():
                raise _no_number(self._path, name, 0)
        rows = len(self._columns[self.names[0]])
        for first in range(0, rows, ROWS):
            part = {name: self._columns[name][first : first + ROWS] for name in (*numbers, *texts)}
            count = min(ROWS, rows - first)
            columns = [part[name].astype(np.float64) for name in numbers]
            yield Block(
                np.stack(columns, axis=1) if columns else np.zeros((count, 0)),
                {name: [word(it) for it in part[name].tolist()] for name in texts},
                first,
            )


def word(value: Any) -> str:
    """Return the text of a value, the same whatever file has it: a whole number has no point, as in 1 and never 1.0.

    Whole numbers become floats where a value is missing, in Parquet, in npz and in the CSV that pandas writes.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and abs(value) < EXACT and value.is_integer():
        return str(int(value))
    text = str(value)
    return text.partition(".")[0] if _WHOLE.fullmatch(text) else text
