"""What a simulation is of: a job's files, its sites, and which data each of them has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeGuard

from blake3 import blake3

from convoy.errors import BadInput
from convoy.flows.check import check_job, counted
from convoy.partition import Parts
from convoy.sim import parts as dividing
from convoy.sim.parts import Divided, Entry
from convoy.sim.sources import Arrays, digest_of
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
    origin: Origin
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

    def given(self) -> dict[str, list[str]]:
        """Return digests of what the sites have beside the files of the job, by the name of the data."""
        found = {name: [digest_of(Path(path))] for name, path in self.roots.items()}
        for name, one in self.divided.items():
            rows = blake3(b"".join(b"%d " % len(rows) + rows.tobytes() for rows in one.partition.rows)).hexdigest()
            found[name] = [one.source.digest(), rows]
        return found

    def changed(self, files: Mapping[str, bytes]) -> Plan:
        """Return the plan of other files, with the same seed, sites and data; data that the job makes is made anew.

        Raises `BadInput`.
        """
        if any(type(one.source) is Arrays for one in self.divided.values()):  # arrays that the job may have made
            return _planned(files, self.origin, self.job.seed)
        job = _job(files, self.job.seed)
        _enough(job, files, self.sites)
        return replace(self, job=job, files=files)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a plan was read from beside the files."""

    folder: Path
    sites: int | Sequence[str] | None
    data: Mapping[str, Path | Parts]


def read_plan(
    folder: Path, *, sites: int | Sequence[str] | None = None, data: Mapping[str, Path | Parts] | None = None
) -> Plan:
    """Read a job's folder; what is given comes before its simulate.yaml. Raises `BadInput`.

    `sites`: how many there are, or their names.
    """
    return _planned(folders.gather_job(folder), Origin(folder, _checked(sites), dict(data or {})))


def _job(files: Mapping[str, bytes], seed: str = "") -> Job:
    """Return the job of these files, checked; `seed` comes before its own. Raises `BadInput`."""
    job, document = read_bundle(files)
    check_job(job, document, files, None)
    return job.model_copy(update={"seed": seed or job.seed})


def _enough(job: Job, files: Mapping[str, bytes], sites: Sequence[str]) -> None:
    """Raise `BadInput` where the job needs more sites than there are: in a simulation, no other ones will come."""
    found = [*counted(job, read_bundle(files)[1], len(sites), "the simulation has", "begin it with --sites")]
    if found:
        raise yamls.together(found)


def _planned(files: Mapping[str, bytes], origin: Origin, seed: str = "") -> Plan:
    job = _job(files, seed)
    sites, data = origin.sites, origin.data
    count, given, devices = _stated(origin.folder, files, job, data)
    given |= {name: one.resolve() if isinstance(one, Path) else one for name, one in data.items()}
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
    _enough(job, files, listed)
    each = {
        site: {name: str(_part(found, place, site, listed)) for name, found in parts.items()}
        for place, site in enumerate(listed)
    }
    return Plan(job, files, listed, each, {name: str(path) for name, path in paths.items()}, origin, devices, divided)


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
    """Return a file that every site has, or the entries of a folder, in the order of their names: 2 is before 10."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise BadInput(f"the data {name!r} is not there", why=f"no file and no folder: {path}")
    found = sorted((one for one in path.iterdir() if not one.name.startswith(".")), key=_natural)
    if not found:
        raise BadInput(f"the data {name!r} is an empty folder", why=str(path), fix="put one file for each site into it")
    return found


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a name as a key by which numbers in it count as such."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path.name) if part]


def _part(found: Path | list[Path], place: int, site: str, sites: Sequence[str]) -> Path:
    """Return what a site has: the file of all, the entry of its name if every site has one, else that in its place."""
    if isinstance(found, Path):
        return found
    by_name = {one.stem if one.is_file() else one.name: one for one in found}
    return by_name[site] if by_name.keys() >= {*sites} else found[place]


def _checked(sites: object) -> int | Sequence[str] | None:
    """Return the number or the names of sites as they were given. Raises `BadInput` for anything else."""
    if isinstance(sites, int) and not isinstance(sites, bool) and 1 <= sites <= MOST:
        return sites
    if sites is None or _are_names(sites):
        return sites
    if isinstance(sites, str) or not isinstance(sites, Sequence) or not all(isinstance(it, str) for it in sites):
        raise BadInput(f"sites is {sites!r}", fix=f"give a number from 1 to {MOST:,}, or a list of different names")
    twice = sorted({one for one in sites if list(sites).count(one) > 1})
    wrong = twice or [one for one in sites if not _is_name(one)]
    why = "it stands there twice" if twice else f"wanted {names.WORD}, and not {' or '.join(sorted(names.RESERVED))}"
    raise BadInput(f"{', '.join(wrong[:5]) or 'an empty list'} cannot be a site's name"[:200], why=why)


def _is_name(one: object) -> bool:
    try:
        return isinstance(one, str) and names.word(one) not in names.RESERVED and not re.fullmatch(r"[\d.]+", one)
    except ValueError:
        return False


def _are_names(found: object) -> TypeGuard[Sequence[str]]:
    """Whether these are different names that sites may have."""
    if isinstance(found, str) or not isinstance(found, Sequence) or not all(map(_is_name, found)):
        return False
    return 0 < len(found) == len({*found}) <= MOST


def _named(job: Job, said: int | Sequence[str] | None) -> int | tuple[str, ...] | None:
    """Return the names of the sites, in order, or how many there are as far as that is known. Raises `BadInput`."""
    if said is None or isinstance(said, int):
        return tuple(sorted(job.sites)) if job.sites and said in (None, len(job.sites)) else said
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
