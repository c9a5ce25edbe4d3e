"""What a simulation is of: a job's files, its sites, and which data each of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeGuard

from blake3 import blake3

from convoy.errors import BadInput
from convoy.flows.check import check_job
from convoy.partition import Parts
from convoy.sim import parts as dividing
from convoy.sim.parts import Divided, Entry
from convoy.spec import names, yamls
from convoy.spec.devices import Devices
from convoy.spec.job import Job, read_bundle
from convoy.trust import folders

FILE: Final = "simulate.yaml"  # in the job's folder: sites, their devices, and for each name of data what they have
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
    divided: Mapping[str, Divided] = field(default_factory=dict)  # data of which the sites' parts are not written yet

    def placed(self, folder: Path, results: Path) -> Plan:
        """Write the sites' parts of data that is divided, into FOLDER/NAME/SITE; return the plan with their paths.

        `results`: gets a partition-NAME.csv that says how many rows each site has, and of which labels.
        """
        if not self.divided:
            return self
        data, roots = {site: dict(paths) for site, paths in self.data.items()}, dict(self.roots)
        for name, found in self.divided.items():
            roots[name] = str(folder / name)
            for site, path in found.write(self.sites, folder / name).items():
                data[site][name] = str(path)
            results.mkdir(parents=True, exist_ok=True)
            (results / f"partition-{name}.csv").write_text(found.partition.table().csv(self.sites))
        return replace(self, data=data, roots=roots, divided={})

    def given(self) -> dict[str, str]:
        """Return what the sites have beside the files of the job, by name: equal texts for equal data."""
        divided = {
            name: blake3(b"".join(b"%d " % len(rows) + rows.tobytes() for rows in one.partition.rows)).hexdigest()
            for name, one in self.divided.items()
        }
        return dict(self.roots) | divided


def read_plan(
    folder: Path, *, sites: int | Sequence[str] | None = None, data: Mapping[str, Path | Parts] | None = None
) -> Plan:
    """Read a job's folder; what is given comes before its simulate.yaml. Raises `BadInput`.

    `sites`: how many there are, or their names.
    """
    files = folders.gather_job(folder)
    job, document = read_bundle(files)
    check_job(job, document, files, None)
    count, given, devices = _stated(folder, files, job, data or {})
    given |= {name: one.resolve() if isinstance(one, Path) else one for name, one in (data or {}).items()}
    paths = {name: one for name, one in given.items() if isinstance(one, Path)}
    parts = {name: _parts(name, path) for name, path in paths.items()}
    divided = {name: dividing.of_arrays(one) for name, one in given.items() if isinstance(one, Parts)}
    entries = {name: one for name, one in given.items() if isinstance(one, Entry)}
    named = _named(job, count if sites is None else sites)
    wanted = _count(named, parts, divided)
    for name, entry in sorted(entries.items(), key=lambda it: not it[1].tells):  # those that tell the number are first
        if wanted is None and not entry.tells:
            break
        divided[name] = entry.divide(wanted)
        wanted = wanted or len(divided[name].partition)
    listed = _sites(named, wanted, parts, divided)
    each = {
        site: {name: str(found[place] if isinstance(found, list) else found) for name, found in parts.items()}
        for place, site in enumerate(listed)
    }
    return Plan(job, files, listed, each, {name: str(path) for name, path in paths.items()}, devices, divided)


Given = Path | Parts | Entry  # what there is to say of one name of data


def _stated(
    folder: Path, files: Mapping[str, bytes], job: Job, instead: Mapping[str, Any]
) -> tuple[int | list[str] | None, dict[str, Given], Devices | None]:
    """Return what simulate.yaml says: the sites, each name of data that nothing is given instead, the devices."""
    if FILE not in files:
        return None, {}, None
    document = yamls.load(files[FILE].decode(errors="replace"), name=FILE)
    stated = document.mapping()
    for key in stated:
        if key not in KEYS:
            raise yamls.unknown_key(key, KEYS, where=document.where((key,)))
    count, data = stated.get("sites"), stated.get("data", {})
    counts = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= MOST
    if count is not None and not counts and not _are_names(count):
        where = document.where(("sites",))
        fix = f"give a number from 1 to {MOST:,}, or a list of different names"
        raise BadInput(f'"sites" is {yamls.seen(count)}', fix=fix, where=where)
    if not isinstance(data, dict) or not all(isinstance(one, str | dict) for one in data.values()):
        where = document.where(("data",))
        fix = "give for each name a path, or `{file: …, split: …}`"
        raise BadInput(f'"data" is {yamls.seen(data)}', fix=fix, where=where)
    devices = None if "devices" not in stated else yamls.parse(document, Devices, stated["devices"], ("devices",))
    found: dict[str, Given] = {
        name: (folder / one).resolve() if isinstance(one, str) else dividing.read_entry(name, document, folder, job)
        for name, one in data.items()
        if name not in instead
    }
    return count, found, devices


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


def _are_names(found: object) -> TypeGuard[Sequence[str]]:
    """Whether these are different names that sites may have."""
    if isinstance(found, str) or not isinstance(found, Sequence):
        return False
    try:
        return 0 < len(found) == len({names.word(one) for one in found}) <= MOST
    except (TypeError, ValueError):
        return False


def _named(job: Job, said: int | Sequence[str] | None) -> int | tuple[str, ...] | None:
    """Return the names of the sites, in order, or how many there are as far as that is known. Raises `BadInput`."""
    if said is None or isinstance(said, int):
        return tuple(sorted(job.sites)) if job.sites and said in (None, len(job.sites)) else said
    if not _are_names(said):
        fix = f"give different names of {names.WORD}"
        raise BadInput(f"these are no names of sites: {', '.join(map(str, said))}"[:200], fix=fix)
    if strangers := sorted({*(job.sites or ())} - {*said}):
        raise BadInput(f"the job is for {', '.join(strangers)}, too", fix="name these sites, or remove `sites` there")
    return tuple(sorted(job.sites or said))


def _count(named: int | tuple[str, ...] | None, parts: Mapping[str, Any], divided: Mapping[str, Divided]) -> int | None:
    """Return how many sites there are: as is said, or as the data has; None where nothing tells."""
    lengths = [len(found) for found in parts.values() if isinstance(found, list)]
    lengths += [len(found.partition) for found in divided.values()]
    return len(named) if isinstance(named, tuple) else named or max(lengths, default=None)


def _sites(
    named: int | tuple[str, ...] | None, wanted: int | None, parts: Mapping[str, Any], divided: Mapping[str, Divided]
) -> tuple[str, ...]:
    """Return the names of the sites. Raises `BadInput` where their number is not known, or is not that of the data."""
    if wanted is None:
        raise BadInput(
            "nobody says how many sites there are",
            fix=f"add --sites 10, or write `sites: 10` into {FILE}, or give a folder of one file for each site",
        )
    for name, found in parts.items():
        if isinstance(found, list) and len(found) < wanted:
            raise BadInput(f"there are {wanted} sites, and the data {name!r} has {len(found)} files for them")
    for name, one in divided.items():
        if len(one.partition) != wanted:
            raise BadInput(f"there are {wanted} sites, and the data {name!r} is divided among {len(one.partition)}")
    if isinstance(named, tuple):
        return named
    width = len(str(wanted))
    return tuple(f"site-{number:0{width}}" for number in range(1, wanted + 1))
