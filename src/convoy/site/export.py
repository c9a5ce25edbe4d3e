"""Sends a job's artifacts to the server, as far as the site's policy allows, in one package."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from blake3 import blake3

from convoy import errors
from convoy.errors import ConvoyError, Refused
from convoy.node.leftovers import files, length
from convoy.site import artifacts
from convoy.site.line import Line
from convoy.site.release import Release
from convoy.spec.printable import one_line
from convoy.wire import convoy_pb2 as pb
from convoy.wire import package
from convoy.worker.code import told

FILE: Final = "artifacts.package"  # in the job's folder
STEP: Final = 1 << 20  # bytes that are copied at once
IRREGULAR: Final = "it is not a regular file"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The artifacts that leave, as (path, size) sorted by path, and those that do not, each with the reason."""

    files: tuple[tuple[str, int], ...]
    left: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        """Bytes of the files that leave."""
        return sum(size for _, size in self.files)


async def send(job: str, folder: Path, release: Release, line: Line, say: Callable[[str], None]) -> tuple[int, int]:
    """Send the artifacts of the job in `folder` as far as the policy lets them leave; `say` what does not, and why.

    Returns how many files were sent, and their bytes. The job's processes have ended. An error here loses the
    artifacts at the server and nothing else.
    """
    try:
        most = release.rules.now().leave.artifacts
        if not most:
            return 0, 0
        source, target = folder / "code" / artifacts.FOLDER, folder / FILE
        chosen = await asyncio.to_thread(choose, source, release.kit.name, most)
        for why, names in _by_reason(chosen.left).items():
            say(f"not sent of {artifacts.FOLDER}/: {artifacts.some(names)}: {why}")
        if not chosen.files:
            return 0, 0
        head = await asyncio.to_thread(pack, job, chosen, source, target)
        async with asyncio.timeout(package.longest_s(head.size)):
            await line.bring(head, str(target))
        say(f"{len(chosen.files)} files ({chosen.size} bytes) of {artifacts.FOLDER}/ are sent to the server")
        return len(chosen.files), chosen.size
    except TimeoutError:
        say(f"{artifacts.FOLDER}/ is not sent: the connection is slower than {package.SLOWEST >> 20} MiB a second")
    except (ConvoyError, OSError) as problem:
        say(f"{artifacts.FOLDER}/ is not sent: {one_line(told(errors.line(problem)))}")
    return 0, 0


def choose(source: Path, site: str, most: int) -> Chosen:
    """Choose the regular files in a folder whose names the server takes, up to `most` bytes.

    Of very many files only the first are considered.
    """
    seen = islice(files(source), artifacts.MAX_FILES)
    found = {str(path.relative_to(source)): length(path) for path in seen}
    chosen: list[tuple[str, int]] = []
    left: list[tuple[str, str]] = []
    size, refused = 0, package.refused(sorted(found), site)
    for path in sorted(found):
        why = refused.get(path, "")
        if why:
            left.append((path, f"its name {why}"))
        elif found[path] < 0:
            left.append((path, IRREGULAR))
        elif len(chosen) == package.MAX_FILES:
            left.append((path, f"{package.MAX_FILES} files of one site and job are the limit"))
        elif size + found[path] > most:
            left.append((path, f"`leave: artifacts` in the policy of {site} is {most} bytes"))
        else:
            chosen.append((path, found[path]))
            size += found[path]
    return Chosen(tuple(chosen), tuple(left))


def pack(job: str, chosen: Chosen, source: Path, target: Path) -> pb.ArtifactsHead:
    """Write the package of the chosen files; return its announcement. Raises `OSError`, `Refused`."""
    listed, digest = package.listing(chosen.files), blake3()
    with target.open("wb") as writing:
        digest.update(listed)
        writing.write(listed)
        for path, size in chosen.files:
            for piece in _pieces(source / path, size):
                digest.update(piece)
                writing.write(piece)
    size = len(listed) + chosen.size
    return pb.ArtifactsHead(job=job, digest=digest.hexdigest(), size=size)


def _pieces(path: Path, size: int) -> Iterable[bytes]:
    """Yield the bytes of a regular file of this size."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        while size:
            piece = file.read(min(size, STEP))
            if not piece:
                raise Refused(f"{path.name} is shorter than it was")
            size -= len(piece)
            yield piece


def _by_reason(left: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, why in left:
        found.setdefault(why, []).append(path)
    return found
