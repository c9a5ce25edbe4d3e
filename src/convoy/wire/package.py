"""The package in which a site's artifacts are sent: a frame with paths and sizes, then the bytes of the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from convoy.errors import RemoteFault
from convoy.trust import paths
from convoy.wire import convoy_pb2 as pb
from convoy.wire.frames import LENGTH, length_of, pack, parsed

MAX_FILES: Final = 1000  # of one site and job
MAX_PATH: Final = 960  # bytes of a path among the results: object stores take 1,024, including the job's id
MAX_NAME: Final = 240  # bytes of a name: a store in a folder first writes a temporary file with a longer name
MAX_LIST: Final = 2 << 20  # bytes: 1,000 paths of 1,024 bytes, twice over
FIRST_S: Final = 60.0  # for a package of any size
SLOWEST: Final = 1 << 20  # bytes a second: a slower package does not delay the end of its job


@dataclass(frozen=True, slots=True)
class File:
    """One file in a package: `size` bytes from `start` on."""

    path: str
    start: int
    size: int


def longest_s(size: int) -> float:
    """Return how many seconds a package of `size` bytes may take."""
    return FIRST_S + size / SLOWEST


def folder(site: str) -> str:
    """Return the prefix of a site's artifacts among the results of a job."""
    return f"artifacts/{site}/"


def refused(listed: Sequence[str], site: str) -> dict[str, str]:
    """Return why files of a sorted list of paths cannot be among the results as artifacts of this site."""
    begin = folder(site)
    found = {path.removeprefix(begin): why for path, why in paths.refused([begin + path for path in listed]).items()}
    for path in listed:
        if len((begin + path).encode(errors="replace")) > MAX_PATH:
            found.setdefault(path, f"has more than {MAX_PATH} bytes, with {begin} before it")
        elif max(len(part.encode(errors="replace")) for part in path.split("/")) > MAX_NAME:
            found.setdefault(path, f"has a part of more than {MAX_NAME} bytes")
    return found


def listing(files: Sequence[tuple[str, int]]) -> bytes:
    """Return the first bytes of a package of these files, given as (path, size) and sorted by path."""
    return pack(pb.ArtifactList(files=[pb.Artifact(path=path, size=size) for path, size in files]))


def files_of(package: BinaryIO, size: int, site: str, most: int = MAX_FILES) -> list[File]:
    """Return the files of a package of `size` bytes, as its list describes them.

    Raises `RemoteFault` for what is not a package, for more than `most` files, for paths that are not
    allowed, and for sizes that are not the package's.
    """
    head = package.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise RemoteFault(f"the artifacts of {site} have no list")
    listed = package.read(length_of(head, MAX_LIST))
    found, start = parsed(pb.ArtifactList, listed).files, len(head) + len(listed)
    if len(found) > most:
        raise RemoteFault(f"{len(found)} artifacts of {site}", why=f"this job accepts {most} from each of its sites")
    for path, why in refused([one.path for one in found], site).items():
        raise RemoteFault(f"the artifacts of {site} have a name that is not allowed", why=f"{path!r} {why}")
    files = []
    for one in found:
        files.append(File(one.path, start, one.size))
        start += one.size
    if start != size:
        raise RemoteFault(f"the artifacts of {site} are damaged", why=f"their list is of {start} bytes, not of {size}")
    return files
