"""Data that a simulation divides among its sites: what simulate.yaml says of it, and the files that the sites get."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3

from convoy import partition
from convoy.errors import BadInput
from convoy.partition import Partition, Parts
from convoy.sim.sources import Arrays, Source, open_file
from convoy.spec import yamls
from convoy.spec.job import Job
from convoy.worker import code, tasks
from convoy.worker.namespaces import Namespace, Switch
from convoy.worker.setup import Data, Setup
from convoy.worker.tasks import NodeSession

Array = np.ndarray[Any, Any]
NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")  # of data that is divided: it becomes a folder


@dataclass(frozen=True, slots=True)
class Split:
    """A partitioner, and the key that names the column it looks at: none where it looks at the number of rows."""

    function: Callable[..., Partition]
    key: str = ""
    tells: bool = False  # whether it says how many sites there are, where nobody else does

    @property
    def parameters(self) -> list[str]:
        """The parameters that a person gives: not the column, and not the number of sites."""
        _, *others = inspect.signature(self.function).parameters
        return [name for name in others if name != "sites"]


SPLITS: Final[Mapping[str, Split]] = {
    "iid": Split(partition.iid),
    "dirichlet": Split(partition.dirichlet, "label"),
    "classes": Split(partition.classes, "label"),
    "shards": Split(partition.shards, "label"),
    "given": Split(partition.given, "label", tells=True),
    "sizes": Split(partition.sizes),
    "natural": Split(partition.natural, "id", tells=True),
    "by_time": Split(partition.by_time, "time"),
    "feature": Split(partition.feature, "feature"),
    "columns": Split(partition.columns, "columns"),
}


@dataclass(frozen=True, slots=True)
class Divided:
    """A data set, and which site has which part of it."""

    source: Source
    partition: Partition
    column: str = ""  # the array whose columns are divided, where there are several

    def write(self, sites: Sequence[str], folder: Path) -> dict[str, Path]:
        """Write the part of each site into a new folder; return their paths."""
        folder.mkdir(parents=True)
        paths = {site: folder / f"{site}{self.source.suffix}" for site in sites}
        self.source.write(self.partition, list(paths.values()), self.column)
        return paths


def of_arrays(parts: Parts) -> Divided:
    """Return arrays that a program has divided."""
    return Divided(Arrays(parts.arrays), parts.partition)


@dataclass(frozen=True, slots=True)
class Entry:
    """What simulate.yaml says of one name of data, checked; it is divided when the number of sites is known."""

    name: str
    source: Source
    split: Split
    given: Mapping[str, Any]  # its parameters
    columns: Mapping[str, Any]  # the names of columns, by key
    document: yamls.Document

    @property
    def tells(self) -> bool:
        """Whether it says how many sites there are, where nobody else does."""
        return self.split.tells

    def divide(self, sites: int | None) -> Divided:
        """Divide the rows, or the columns. Raises `BadInput` with the line of what does not fit."""
        column = self.columns.get("columns", "")
        names = list(inspect.signature(self.split.function).parameters)
        more = {"sites": sites} if "sites" in names and sites is not None else {}
        try:
            found = self.split.function(self._first(), **more, **self.given)
            if "label" in self.columns and not found.axis:
                found = found.labelled(self._column("label"))
                found.table()  # labels that cannot be counted are refused here, with their line
        except BadInput as error:
            key = self.split.key if error.where == names[0] else "label" if error.where == "labels" else error.where
            what = error.what.removeprefix(f"{error.where}: ")
            about = f'"{key}" of ' if key in (*self.given, *self.columns) else ""
            where = self.document.where(("data", self.name, key))
            raise BadInput(
                f'{about}the data "{self.name}": {what}', why=error.why, fix=error.fix, where=where
            ) from error
        return Divided(self.source, found, column if found.axis else "")

    def _first(self) -> Any:
        """Return what the partitioner divides: a number of rows, columns, or the values of a column."""
        if not self.split.key:
            return self.source.rows
        if self.split.key == "columns":
            return self.source.width(self.columns.get("columns", ""))
        return self._column(self.split.key)

    def _column(self, key: str) -> Array:
        """Return the values of the column, or of the columns, that a key names."""
        named = self.columns.get(key, "")
        if isinstance(named, list):
            return np.stack([_read(self.source.column(one), key) for one in named], axis=1)
        return _read(self.source.column(named), key)


def _read(values: Array, key: str) -> Array:
    """Return texts that are all whole numbers, or all numbers, as such; others and numbers as they are."""
    if values.dtype.kind != "U":
        return values
    if (empty := np.flatnonzero(values == "")).size:
        what = f"record {empty[0] + 1} has no value"
        raise BadInput(what, fix="leave out the records without one", where=key)
    for dtype in (np.int64, np.float64):
        try:
            found: Array = values.astype(dtype)
        except (ValueError, OverflowError):
            continue
        if dtype == np.float64 or (found.astype(values.dtype) == values).all():  # "007" is a word
            return found
    return values


def read_entry(name: str, document: yamls.Document, folder: Path, job: Job) -> Entry:
    """Return what simulate.yaml says of one name of data that is to be divided. Raises `BadInput` with its line."""
    path = ("data", name)
    stated = document.mapping()["data"][name]
    if not NAME.fullmatch(name):
        what = f'"{name}" cannot be a name of data that is divided'
        raise BadInput(what, fix="use letters, digits, `-`, `_`, `.`", where=document.where(path))
    split = SPLITS.get(str(stated.get("split", "")))
    if split is None:
        seen = yamls.seen(stated["split"]) if "split" in stated else "missing"
        fix = f"use one of {', '.join(SPLITS)}"
        raise BadInput(f'"split" of the data "{name}" is {seen}', fix=fix, where=document.where((*path, "split")))
    takes, columns = split.parameters, {split.key, "label"} - {""} if split.key != "columns" else {"columns"}
    for key in stated:
        if key not in (known := {"file", "make", "split", *takes, *columns}):
            raise yamls.unknown_key(key, known, where=document.where((*path, key)))
    source = _source(name, document, folder, job)
    needed = split.key if split.key != "columns" or source.suffix == ".npz" else ""
    if needed and needed not in stated and source.names:
        fix = f"add `{needed}: …`, one of {_some(source.names)}"
        raise BadInput(f'the data "{name}" does not say its "{needed}"', fix=fix, where=document.where(path))
    if not needed and "columns" in stated:
        where = document.where((*path, "columns"))
        raise BadInput('"columns" is for files of several arrays', fix="remove it, or use `shared`", where=where)
    named = {key: _named(stated[key], key, source, document.where((*path, key))) for key in columns if key in stated}
    given = {key: value for key, value in stated.items() if key in takes}
    _complete(split, given, document.where(path), name)
    if "seed" in takes:
        given.setdefault("seed", seed_of(job))
    return Entry(name, source, split, given, named, document)


def _complete(split: Split, given: Mapping[str, Any], where: str, name: str) -> None:
    """Raise `BadInput` where a parameter is missing that has no default."""
    known = inspect.signature(split.function).parameters
    for key in split.parameters:
        if known[key].default is inspect.Parameter.empty and key not in given:
            raise BadInput(f'the data "{name}" does not say its "{key}"', fix=f"add `{key}: …`", where=where)


def _named(value: Any, key: str, source: Source, where: str) -> Any:
    """Return the name of a column, or of several features. Raises `BadInput` where the data has none of that name."""
    for one in value if key == "feature" and isinstance(value, list) and value else [value]:
        if one not in source.names:
            fix = f"use one of {_some(source.names)}" if source.names else "remove it: the file is one array"
            raise BadInput(f'"{key}" is {yamls.seen(one)}, and the data has none of that name', fix=fix, where=where)
    return value


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


def _source(name: str, document: yamls.Document, folder: Path, job: Job) -> Source:
    """Return the data of a file, or of a function of the job."""
    stated = document.mapping()["data"][name]
    if ("file" in stated) == ("make" in stated):
        where = document.where(("data", name))
        fix = "add `file: data.csv`, or `make: data.py:function`"
        raise BadInput(
            f'the data "{name}" needs a file or a function that makes it, and not both', fix=fix, where=where
        )
    key = "file" if "file" in stated else "make"
    where = document.where(("data", name, key))
    if not isinstance(stated[key], str):
        raise BadInput(f'"{key}" is {yamls.seen(stated[key])}', fix="give a text", where=where)
    try:
        return open_file((folder / stated[key]).resolve()) if key == "file" else _made(stated[key], folder, job)
    except BadInput as error:
        raise BadInput(error.what, why=error.why, fix=error.fix, where=where) from error


def _made(reference: str, folder: Path, job: Job) -> Arrays:
    """Return the arrays that a function of the job makes, in modules of their own. Raises `BadInput`."""
    if not code.split(reference)[1]:
        raise BadInput(f"{reference} names no function", fix="write `data.py:function`")
    switch, before = Switch(folder), tasks.Here.session
    tasks.Here.session = NodeSession(Setup("", job.name, "server", job.config, Data(), job.seed))
    switch.to(Namespace())
    try:
        found = code.initial(folder, reference, job.config)
    except BadInput as error:
        raise BadInput(error.what.removeprefix("job.yaml: "), why=error.why, fix=error.fix) from error
    except Exception as error:  # the supervisor of foreign code: whatever it raises is this entry's fault
        raise BadInput(f"{reference} failed", why=code.line(error)) from error
    finally:
        switch.gathered()
        switch.to(None)
        tasks.Here.session = before
    pair = isinstance(found, tuple | list) and len(found) == 2
    arrays = dict(zip("xy", found, strict=True)) if pair else found
    if not isinstance(arrays, Mapping) or not all(isinstance(each, str) and "/" not in each for each in arrays):
        what = f"{reference} returned {type(found).__name__}"
        raise BadInput(what, fix="return arrays by name, or two of them, which are called x and y")
    return Arrays({each: np.asarray(array) for each, array in arrays.items()})


def seed_of(job: Job) -> int:
    """Return the seed of partitions that name none: it follows from the job's, and is the same for all of its data."""
    return int.from_bytes(blake3(f"partition {job.seed}".encode()).digest(length=8)) >> 1
