"""What a simulation is of: a job's files, its sites, and which data each of them has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from convoy.errors import BadInput
from convoy.flows.check import check_job
from convoy.spec import yamls
from convoy.spec.devices import Devices
from convoy.spec.job import Job, read_bundle
from convoy.trust import folders

FILE: Final = "simulate.yaml"  # in the job's folder: sites, and a path for each name of data
KEYS: Final = ("sites", "data", "devices")
MOST: Final = 100_000  # sites


@dataclass(frozen=True, slots=True)
class Plan:
    """A job, its files, the names of its sites in order, and the paths of each site's data by name."""

    job: Job
    files: Mapping[str, bytes]
    sites: tuple[str, ...]
    data: Mapping[str, Mapping[str, str]]  # by site; all share one mapping where their data is the same
    roots: Mapping[str, str]  # the paths that were given, by name
    devices: Devices | None = None  # None: everything takes no time

    @property
    def given(self) -> dict[str, str]:
        """What it is of beside the files of the job, as text that is equal for equal data."""
        return dict(self.roots)


def read_plan(folder: Path, *, sites: int | None = None, data: Mapping[str, Path] | None = None) -> Plan:
    """Read a job's folder; what is given comes before its simulate.yaml. Raises `BadInput`."""
    files = folders.gather_job(folder)
    job, document = read_bundle(files)
    check_job(job, document, files, None)
    count, given, devices = _stated(folder, files)
    given |= {name: path.resolve() for name, path in (data or {}).items()}
    parts = {name: _parts(name, path) for name, path in given.items()}
    listed = _sites(job, sites if sites is not None else count, parts)
    each = {
        site: {name: str(found[place] if isinstance(found, list) else found) for name, found in parts.items()}
        for place, site in enumerate(listed)
    }
    return Plan(job, files, listed, each, {name: str(path) for name, path in given.items()}, devices)


def _stated(folder: Path, files: Mapping[str, bytes]) -> tuple[int | None, dict[str, Path], Devices | None]:
    """Return what simulate.yaml says: how many sites there are, a path for each name of data, and their devices."""
    if FILE not in files:
        return None, {}, None
    document = yamls.load(files[FILE].decode(errors="replace"), name=FILE)
    stated = document.mapping()
    for key in stated:
        if key not in KEYS:
            raise yamls.unknown_key(key, KEYS, where=document.where((key,)))
    count, paths = stated.get("sites"), stated.get("data", {})
    if count is not None and (type(count) is not int or not 1 <= count <= MOST):
        where = document.where(("sites",))
        raise BadInput(f'"sites" is {yamls.seen(count)}', fix=f"give a number from 1 to {MOST:,}", where=where)
    if not isinstance(paths, dict) or not all(isinstance(path, str) for path in paths.values()):
        where = document.where(("data",))
        raise BadInput(f'"data" is {yamls.seen(paths)}', fix="give a path for each name", where=where)
    devices = None if "devices" not in stated else yamls.parse(document, Devices, stated["devices"], ("devices",))
    return count, {str(name): (folder / path).resolve() for name, path in paths.items()}, devices


def _parts(name: str, path: Path) -> Path | list[Path]:
    """Return a file that every site has, or the entries of a folder: one for each site, in the order of their names."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise BadInput(f"the data {name!r} is not there", why=f"no file and no folder: {path}")
    found = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    if not found:
        raise BadInput(f"the data {name!r} is an empty folder", why=str(path), fix="put one file for each site into it")
    return found


def _sites(job: Job, count: int | None, parts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the sites. Raises `BadInput` where their number is not known, or is not that of the data."""
    lengths = {name: len(found) for name, found in parts.items() if isinstance(found, list)}
    wanted = count or (len(job.sites) if job.sites else None) or max(lengths.values(), default=None)
    if wanted is None:
        raise BadInput(
            "nobody says how many sites there are",
            fix=f"add --sites 10, or write `sites: 10` into {FILE}, or give a folder of one file for each site",
        )
    for name, length in lengths.items():
        if length < wanted:
            raise BadInput(f"there are {wanted} sites, and the data {name!r} has {length} files for them")
    if job.sites is not None and len(job.sites) == wanted:
        return tuple(sorted(job.sites))
    width = len(str(wanted))
    return tuple(f"site-{number:0{width}}" for number in range(1, wanted + 1))
