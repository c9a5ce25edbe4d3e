"""A data set that a simulation divides: a file or arrays, of which columns are read and the parts are written."""

from __future__ import annotations

import csv
import mmap
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from blake3 import blake3
from numpy.lib import format as npy

from convoy.errors import BadInput
from convoy.partition.rows import Partition, rows_of

Array = np.ndarray[Any, Any]
KINDS: Final = (".csv", ".npy", ".npz", ".parquet")
OPEN: Final = 64  # files that are written at a time where columns are divided


class Source(Protocol):
    """A data set with rows; each site gets a file of the same kind with its part of them."""

    suffix: str
    rows: int

    @property
    def names(self) -> Sequence[str]:
        """The names of its columns, or of its arrays; none where it is one array."""

    def column(self, name: str) -> Array:
        """Return the values of one of `names`, one for each row."""

    def width(self, name: str) -> int | Sequence[str]:
        """Return how many columns can be divided, or their names; `name`: of the array, where there are several."""

    def write(self, partition: Partition, paths: Sequence[Path], name: str) -> None:
        """Write the part of each site; `name`: of the array whose columns are divided, where there are several."""

    def digest(self) -> str:
        """Return a digest of all that is in it."""


def digest_of(path: Path) -> str:
    """Return a digest of a file, or of all files in a folder with their names."""
    if path.is_file():
        return blake3().update_mmap(path).hexdigest() if path.stat().st_size else ""
    whole = blake3()
    for one in sorted(path.rglob("*")):
        if one.is_file():
            whole.update(f"{one.relative_to(path)}\0{digest_of(one)}\n".encode())
    return whole.hexdigest()


class _InFile:
    """Data that is in one file."""

    _path: Path

    def digest(self) -> str:
        """Return a digest of the file."""
        return digest_of(self._path)


def open_file(path: Path) -> Source:
    """Return the data set in a file, by the ending of its name. Raises `BadInput`."""
    if path.suffix not in KINDS:
        raise BadInput(f"{path.name} cannot be divided", fix=f"give a file that ends in one of {', '.join(KINDS)}")
    if not path.is_file():
        raise BadInput(f"there is no file {path}", fix="give a path from the job's folder")
    kinds: dict[str, Callable[[Path], Source]]
    kinds = {".csv": Lines, ".npy": One, ".npz": Archive, ".parquet": Parquet}
    try:
        return kinds[path.suffix](path)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:  # what numpy raises for bytes that are no arrays
        raise BadInput(f"{path.name} cannot be read", why=str(error)) from error


class Lines(_InFile):
    """A CSV file: its header, and records of one or more lines, which go to the sites as they are."""

    suffix = ".csv"

    def __init__(self, path: Path) -> None:
        """Find where each record begins and ends. Raises `BadInput`."""
        self._path = path
        records = self._records()
        _, self._header, names = next(records, (0, 0, []))
        self.names: Sequence[str] = names
        if len(set(names)) != len(names) or not names:
            raise BadInput(f"{path.name} has no header of different names", fix="begin with a line of column names")
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end, cells in records:
            if not cells:
                continue  # an empty line
            if len(cells) != len(names):
                what = (
                    f"record {len(self._ends) + 1} of {path.name} has {len(cells)} cells, and the header {len(names)}"
                )
                raise BadInput(what, fix="give each record one cell for each column")
            self._starts.append(start)
            self._ends.append(end)
        self.rows = len(self._ends)

    def _records(self) -> Iterator[tuple[int, int, list[str]]]:
        """Yield where each record begins and ends, in bytes, and its cells."""
        at = 0

        def lines(file: Any) -> Iterator[str]:
            nonlocal at
            for line in file:
                first, at = at == 0, at + len(line)
                text = line.decode("utf-8", "surrogateescape")
                yield text.removeprefix("\ufeff") if first else text

        with self._path.open("rb") as file:
            reader = csv.reader(lines(file), strict=True)
            try:
                start = 0
                for cells in reader:
                    yield start, at, cells
                    start = at
            except csv.Error as error:
                raise BadInput(f"line {reader.line_num} of {self._path.name} is no CSV", why=str(error)) from error

    def column(self, name: str) -> Array:
        """Return the texts of a column."""
        place = list(self.names).index(name)
        return np.array([cells[place] for start, _, cells in self._records() if start and cells])

    def width(self, name: str) -> Sequence[str]:  # noqa: ARG002 - a CSV has one set of columns
        """Return the names of the columns."""
        return self.names

    def write(self, partition: Partition, paths: Sequence[Path], name: str) -> None:  # noqa: ARG002
        """Write the header, and each site's records without a change."""
        if partition.axis:
            self._write_columns(partition, paths)
            return
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            header = _ended(text[: self._header])
            for rows, path in zip(partition.rows, paths, strict=True):
                records = [text[self._starts[row] : self._ends[row]] for row in rows.tolist()]
                if records:
                    records[-1] = _ended(records[-1])
                path.write_bytes(header + b"".join(records))

    def _write_columns(self, partition: Partition, paths: Sequence[Path]) -> None:
        for first in range(0, len(paths), OPEN):
            several = slice(first, first + OPEN)
            with ExitStack() as stack:
                opened = [
                    (
                        columns.tolist(),
                        csv.writer(
                            stack.enter_context(path.open("w", newline="", errors="surrogateescape", encoding="utf-8"))
                        ),
                    )
                    for columns, path in zip(partition.rows[several], paths[several], strict=True)
                ]
                for _, _, cells in self._records():
                    for columns, writer in opened:
                        writer.writerow([cells[column] for column in columns] if cells else [])


def _ended(record: bytes) -> bytes:
    """Return a record that ends with a line: the last one of a file may not."""
    return record if record.endswith(b"\n") else record + b"\n"


class Arrays:
    """Arrays by name with the same number of rows; each site gets an npz."""

    suffix = ".npz"

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        """Raise `BadInput` where the numbers of rows differ, and for Python objects."""
        self._shapes = {name: _shape(name, array.shape, array.dtype) for name, array in arrays.items()}
        self.rows, self.names = rows_of(self._shapes), list(arrays)
        self._arrays = arrays

    def digest(self) -> str:
        """Return a digest of names, types and items."""
        whole = blake3()
        for name, array in self._arrays.items():
            whole.update(f"{name}\0{array.dtype}\0{array.shape}\n".encode())
            whole.update(np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()

    def column(self, name: str) -> Array:
        """Return an array."""
        return self._arrays[name]

    def width(self, name: str) -> int:
        """Return how many columns an array has. Raises `BadInput` where it has none."""
        return _width(self._shapes[name])

    def write(self, partition: Partition, paths: Sequence[Path], name: str) -> None:
        """Write the rows of all arrays; where columns are divided, those of one array beside the whole others."""
        whole = self._whole()
        for rows, path in zip(partition.rows, paths, strict=True):
            with zipfile.ZipFile(path, "w") as archive:
                for each, array in whole.items():
                    part = array[rows] if not partition.axis else array[:, rows] if each == name else array
                    with archive.open(f"{each}.npy", "w", force_zip64=True) as file:
                        npy.write_array(file, part, allow_pickle=False)

    def _whole(self) -> Mapping[str, Array]:
        return self._arrays


class Archive(_InFile, Arrays):
    """An npz file; until it is divided, only its headers are read, and the columns that are asked for."""

    def __init__(self, path: Path) -> None:
        """Raise `BadInput` as for arrays."""
        self._path = path
        with zipfile.ZipFile(path) as archive:
            self._shapes = {
                name.removesuffix(".npy"): _header(archive, name) for name in archive.namelist() if name[-4:] == ".npy"
            }
        self.rows, self.names = rows_of(self._shapes), list(self._shapes)

    def column(self, name: str) -> Array:
        """Return an array."""
        with np.load(self._path, allow_pickle=False) as archive:
            found: Array = archive[name]
            return found

    def _whole(self) -> Mapping[str, Array]:
        with np.load(self._path, allow_pickle=False) as archive:
            return {name: archive[name] for name in self.names}


def _header(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Return the shape of an array in an archive without reading its values."""
    with archive.open(name) as file:
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    return _shape(name.removesuffix(".npy"), shape, dtype)


def _shape(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    if dtype.hasobject:
        raise BadInput(f"the array {name!r} holds Python objects", fix="save it with a dtype of numbers or of text")
    return shape


def _width(shape: tuple[int, ...]) -> int:
    if len(shape) < 2:
        raise BadInput(f"an array of shape {shape} has no columns", fix="name an array of rows and columns")
    return shape[1]


class One(_InFile):
    """An npy file: one array, of which each site gets an npy."""

    suffix = ".npy"
    names: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        """Map the file: its values are read where they are needed."""
        self._array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        self.rows = rows_of({path.name: self._array.shape})

    def column(self, name: str) -> Array:  # noqa: ARG002 - there is but one array
        """Return the array."""
        return self._array

    def width(self, name: str) -> int:  # noqa: ARG002
        """Return how many columns the array has. Raises `BadInput` where it has none."""
        return _width(self._array.shape)

    def write(self, partition: Partition, paths: Sequence[Path], name: str) -> None:  # noqa: ARG002
        """Write the rows, or the columns, of each site."""
        for rows, path in zip(partition.rows, paths, strict=True):
            np.save(path, self._array[:, rows] if partition.axis else self._array[rows], allow_pickle=False)


class Parquet(_InFile):
    """A parquet file, read and written by pyarrow."""

    suffix = ".parquet"

    def __init__(self, path: Path) -> None:
        """Raise `BadInput` where pyarrow is not installed, or cannot read the file."""
        try:
            from pyarrow import ArrowException, parquet  # of the people who have such files
        except ImportError as error:
            raise BadInput("a parquet file needs pyarrow", why=str(error), fix="run `pip install pyarrow`") from error
        self._path, self._parquet = path, parquet
        try:
            meta = parquet.ParquetFile(path)
        except ArrowException as error:
            raise BadInput(f"{path.name} cannot be read", why=str(error)) from error
        self.rows, self.names = int(meta.metadata.num_rows), list(meta.schema_arrow.names)

    def column(self, name: str) -> Array:
        """Return the values of a column."""
        found: Array = self._parquet.read_table(self._path, columns=[name])[name].to_numpy()
        return found

    def width(self, name: str) -> Sequence[str]:  # noqa: ARG002 - a table has one set of columns
        """Return the names of the columns."""
        return self.names

    def write(self, partition: Partition, paths: Sequence[Path], name: str) -> None:  # noqa: ARG002
        """Write the rows, or the columns, of each site."""
        table = self._parquet.read_table(self._path)
        for rows, path in zip(partition.rows, paths, strict=True):
            part = table.select(rows.tolist()) if partition.axis else table.take(rows)
            self._parquet.write_table(part, path)
