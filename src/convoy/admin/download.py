"""Downloads of a job: its results (resumable, and no file is ever incomplete) and its bundle."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from convoy.admin import link, parsing
from convoy.admin.faults import LoginNeeded
from convoy.errors import BadInput, ConvoyError, NotFound, RemoteFault, StorageFull, Unreachable

if TYPE_CHECKING:
    from convoy.admin import views
    from convoy.trust.bundle import Bundle
    from convoy.wire.backoff import Patience


MAX_FILES: Final = 20_000  # of a job's results: a log for each site, and a few more
OWNER: Final = ".convoy-job"  # names the job whose results a folder holds


class Open(Protocol):
    """The client's method to get bytes."""

    def __call__(self, method: str, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the chunks of the answer."""
        ...


async def fetch(ask: Open, detail: views.JobDetail, folder: Path, patience: Patience) -> list[Path]:
    """Return the files of a job's results in `folder`; files that are complete are not requested again.

    Raises `NotFound` for a job without results, `BadInput` for a folder that holds another job's, or other files where
    results would go.
    """
    if not detail.results:
        raise NotFound(
            f"job {detail.job.name} has no results",
            why=f"it is {detail.job.state}" + (f": {detail.job.cause}" if detail.job.cause else ""),
            fix=f"follow it with `convoy job watch {detail.job.id[:8]}`",
        )
    from convoy.trust import paths

    problem = paths.problem(sorted(detail.results))
    if len(detail.results) > MAX_FILES:
        problem = f"{len(detail.results):,} of them; at most {MAX_FILES:,} are fetched"
    if problem:
        raise RemoteFault("the server names results that cannot be fetched", why=problem)
    try:
        _claim(folder, detail.job.id, detail.results)
        for name in detail.results:
            if not (folder / name).exists():
                await _fetch(ask, f"/jobs/{detail.job.id}/results/{quote(name)}", folder / name, patience)
    except OSError as error:
        raise _disk(error, folder) from error
    return [folder / name for name in detail.results]


def _claim(folder: Path, job: str, names: Sequence[str]) -> None:
    """Mark the folder for this job's results. Raises `BadInput` if it holds another's, or files of nobody's results."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / OWNER
    there = mark.read_text().strip() if mark.exists() else ""
    if there not in ("", job):
        raise BadInput(
            f"{folder} holds the results of another job", why=f"those of {there[:32]}", fix="choose another with -o"
        )
    if not there and (taken := [name for name in names if os.path.lexists(folder / name)]):
        raise BadInput(
            f"{folder / taken[0]} is there already, and nothing says that it is of this job",
            why=f"a fetch writes over nothing, and {OWNER} in the folder would name the job",
            fix="choose another folder with -o, or move the file away",
        )
    mark.write_text(f"{job}\n")


async def chunks(ask: Open, path: str, patience: Patience, offset: int = 0) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a file from an offset on; continue after a broken connection."""
    while True:
        try:
            async with ask("GET", f"{path}?offset={offset}") as found:
                async for chunk in found:
                    offset += len(chunk)
                    patience.success()
                    yield chunk
        except LoginNeeded as problem:
            await patience.wait(Unreachable(problem.what, why=problem.why, fix=problem.fix))
        except Unreachable as problem:
            await patience.wait(problem)
        else:
            return


async def _fetch(ask: Open, path: str, file: Path, patience: Patience) -> None:
    """Download a file, from where an earlier attempt was interrupted."""
    part = file.with_name(f".{file.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as out:
        async with aclosing(chunks(ask, path, patience, out.tell())) as rest:
            async for chunk in rest:
                out.write(chunk)
        out.flush()
        await asyncio.to_thread(os.fsync, out.fileno())
    part.replace(file)


def _disk(problem: OSError, folder: Path) -> ConvoyError:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            f"no room in {folder}", why=str(problem), fix="free some space and fetch again: the download continues"
        )
    return BadInput(f"{folder} cannot be written", why=str(problem), fix="choose another folder with -o")


def result(ask: Open, job: str, name: str, patience: Patience) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of one file of the results of a job."""
    return chunks(ask, f"{link.path('jobs', job)}/results/{quote(name)}", patience)


async def whole(read: AsyncGenerator[bytes, None], name: str, most: int) -> bytes:
    """Return one file in memory. Raises `NotFound`, and `RemoteFault` for more bytes than `most`."""
    found = bytearray()
    async with aclosing(read) as parts:
        async for chunk in parts:
            found += chunk
            if len(found) > most:
                raise RemoteFault(f"the result {name} is larger than {most:,} bytes")
    return bytes(found)


async def bundle(ask: Open, job: views.JobView, *, root_pem: bytes, project: str) -> Bundle:
    """Return a job's bundle, verified, and checked against the id and the submitter of the job."""
    from convoy.trust import bundle as bundles

    async with ask("GET", f"/jobs/{job.id}/bundle") as chunks:
        data = b"".join([chunk async for chunk in link.limited(chunks, bundles.MAX_BYTES)])
    then = job.submitted_at  # its signature may have expired since the server accepted it
    found = bundles.verify(data, root_pem=root_pem, project=project, now=then)
    parsing.same("the bundle", found.id, job.id)  # an id is the digest of the signed list of files
    parsing.same("the bundle's submitter", found.submitter, job.submitter)
    return found
