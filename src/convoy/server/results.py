"""The results of a job in an object store: its models, rounds, settings, logs and live metrics."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from convoy import errors
from convoy.control.view import ReadOnlyJob
from convoy.errors import ConvoyError, NotFound, StorageFull, Unreachable
from convoy.server.files import JobFiles, sync_folder
from convoy.store.report import RESOURCES, ROUNDS, STATISTICS, job_json, models
from convoy.wire import package

PIECE: Final = 1 << 20  # bytes of an artifact that are in memory at once


class Results:
    """The object store of one server."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        """Use this store; `folder` is its folder if it is a local one. See `open_results`."""
        self._store = store
        self._folder = folder

    async def keep(self, job: ReadOnlyJob, files: JobFiles, say: Callable[[str], None]) -> None:
        """Put everything that `names` lists, once the rounds are written; `say` hears what cannot be put.

        In a folder, models and records are on the disk for good afterwards: the blobs are removed then.
        Raises `StorageFull`, `Unreachable`.
        """
        for name, digest in models(job).items():
            if not files.blobs.has(digest):
                say(f"{name} is not among the results: the server's disk has lost it")
        with _reached():
            await self._put(job, files)
        for site in sorted(path.name for path in files.artifacts.glob("[!.]*")):
            try:
                with _reached():
                    await self._put_artifacts(job.record.id, site, files.package(site))
            except ConvoyError as problem:
                say(f"the artifacts of {site} are not among the results: {errors.line(problem)}")
                await self._drop(f"{job.record.id}/{package.folder(site)}")
        with _reached():
            for path in (*sorted(files.logs.glob("*.log")), *sorted(files.points.glob("*.jsonl"))):
                await obstore.put_async(self._store, f"{job.record.id}/{path.parent.name}/{path.name}", path)
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder / job.record.id)

    async def _put_artifacts(self, key: str, site: str, path: Path) -> None:
        with path.open("rb") as file:
            found = await asyncio.to_thread(package.files_of, file, os.fstat(file.fileno()).st_size, site)
            for one in found:
                pieces = _pieces(file, one) if one.size > PIECE else os.pread(file.fileno(), one.size, one.start)
                await obstore.put_async(self._store, f"{key}/{package.folder(site)}{one.path}", pieces)

    async def _drop(self, prefix: str) -> None:
        """Remove the files under a prefix, as far as possible."""
        with suppress(ConvoyError), _reached():
            async for page in obstore.list(self._store, prefix=prefix):
                for item in page:
                    await obstore.delete_async(self._store, item["path"])

    async def _put(self, job: ReadOnlyJob, files: JobFiles) -> None:
        key = job.record.id
        paths = {name: files.blobs.path(digest) for name, digest in models(job).items()}
        for name, path in (paths | {name: files.drafts / name for name in (*ROUNDS, RESOURCES, STATISTICS)}).items():
            if path.exists() and not self._linked(path, f"{key}/{name}"):
                await obstore.put_async(self._store, f"{key}/{name}", path)
        await obstore.put_async(self._store, f"{key}/job.json", job_json(job.record, ended_at=time.time()).encode())

    def _linked(self, path: Path, name: str) -> bool:
        """Give an immutable file a second name in the local store; return whether that worked."""
        if self._folder is None:
            return False
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another disk, or a file system without links: it is copied
            target.unlink(missing_ok=True)
            os.link(path, target)
            return True
        return False

    async def names(self, job: str) -> list[str]:
        """Return the names of the result files of a job, sorted. Raises `Unreachable`."""
        found: list[str] = []
        with _reached():
            async for page in obstore.list(self._store, prefix=job):
                found.extend(str(item["path"]).removeprefix(f"{job}/") for item in page)
        return sorted(found)

    async def read(self, job: str, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of one file. Raises `NotFound`, `Unreachable`."""
        with _reached():
            try:
                got = await obstore.get_async(self._store, f"{job}/{name}")
            except (NotFoundError, FileNotFoundError) as problem:
                raise NotFound(f"job {job} has no result {name}") from problem
            async for chunk in got.stream(min_chunk_size=1 << 20):
                yield bytes(chunk)

    async def remove(self, job: str, check: Callable[[], None]) -> None:
        """Delete all results of a job. Raises `Unreachable`, and what `check` raises before each file."""
        for name in await self.names(job):
            check()
            with _reached():
                await obstore.delete_async(self._store, f"{job}/{name}")


@contextmanager
def _reached() -> Iterator[None]:
    """Turn the errors of an object store into Convoy's."""
    try:
        yield
    except (BaseError, OSError) as problem:
        why = str(problem).strip().split("\n", 1)[0]
        if "No space left" in why:
            raise StorageFull("no room for the results", why=why) from problem
        raise Unreachable(
            "the store of results does not answer", why=why, fix="see `results` in node.yaml"
        ) from problem


def _sync(folder: Path) -> None:
    """Sync the files of a folder to the disk, and their names; of logs and artifacts, which are many, the names."""
    for path in (*folder.iterdir(), folder, folder.parent):
        sync_folder(path)


def open_results(url: str, folder: Path) -> Results:
    """Open an object store by URL (s3://, gs://, az://, file://), or the folder where there is none."""
    if url:
        return Results(from_url(url))
    folder.mkdir(parents=True, exist_ok=True)
    return Results(LocalStore(folder), folder)


async def _pieces(file: BinaryIO, one: package.File) -> AsyncIterator[bytes]:
    for start in range(one.start, one.start + one.size, PIECE):
        size = min(PIECE, one.start + one.size - start)
        yield await asyncio.to_thread(os.pread, file.fileno(), size, start)
