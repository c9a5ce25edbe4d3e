"""The server's folders: one for each job, with its bundle, code, blobs and logs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from convoy.errors import FULL, StorageFull
from convoy.store import spares
from convoy.store.blobs import BlobFolder
from convoy.store.points import FOLDER


@dataclass(frozen=True)
class JobFiles:
    """The folder of one job; made when the job arrives, cleaned up when it has ended."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """The bundle as it was submitted."""
        return self.folder / "bundle"

    @property
    def code(self) -> Path:
        """The unpacked bundle."""
        return self.folder / "code"

    @property
    def logs(self) -> Path:
        """A file for each site's log, and one for the workflow's ("server")."""
        return self.folder / "logs"

    @property
    def points(self) -> Path:
        """A file of live metrics for each site, and one for the workflow ("server")."""
        return self.folder / FOLDER

    @property
    def out(self) -> Path:
        """The folder that the workflow writes its blobs into."""
        return self.folder / "out"

    @property
    def drafts(self) -> Path:
        """The folder for results that are written before they are kept."""
        return self.folder / "drafts"

    @property
    def artifacts(self) -> Path:
        """A package for each site that sent artifacts."""
        return self.folder / "artifacts"

    @property
    def kept(self) -> Path:
        """A file that is here once the results are in the object store, until the working files are removed."""
        return self.folder / "kept"

    def package(self, site: str) -> Path:
        """The artifacts of one site."""
        return self.artifacts / site

    @cached_property
    def blobs(self) -> BlobFolder:
        """The job's blobs."""
        return BlobFolder(self.folder / "blobs")

    def make(self, bundle: bytes) -> None:
        """Write the bundle and sync it to the disk. Raises `StorageFull`."""
        try:
            self._make(bundle)
        except OSError as problem:
            if problem.errno not in FULL:
                raise
            raise StorageFull("the server has no room for this job", why=str(problem)) from problem

    def _make(self, bundle: bytes) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        (self.folder / "blobs").mkdir(exist_ok=True)
        draft = self.folder / "bundle.tmp"
        with draft.open("wb") as file:
            file.write(bundle)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.bundle)
        for folder in (self.folder, self.folder.parent):
            sync_folder(folder)

    def sweep(self, *, models: bool = True) -> None:
        """Remove the working files, with `models` blobs and packages too; bundle and logs stay until it is deleted."""
        if models:
            shutil.rmtree(self.folder / "blobs", ignore_errors=True)
            shutil.rmtree(self.artifacts, ignore_errors=True)
        for folder in (self.out, self.drafts, self.blobs.spares.folder, self.code):
            shutil.rmtree(folder, ignore_errors=True)
        self.kept.unlink(missing_ok=True)

    def sweep_again(self) -> None:
        """Remove what a server has left of an ended job that was killed before it had removed the working files."""
        if self.kept.exists() or self.code.exists():  # these go last
            self.sweep(models=self.kept.exists())

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The server's working folder."""

    folder: Path

    def job(self, job: str) -> JobFiles:
        """Return the folder of a job, by its id (32 hex digits, checked where it comes in)."""
        return _files(self.folder, job)

    def free(self, reserve: int) -> int:
        """Return how many bytes are free beyond `reserve`."""
        return shutil.disk_usage(self.folder).free - reserve

    def room(self, reserve: int) -> str:
        """Return a sentence if less than `reserve` bytes are free, else an empty text."""
        free = spares.free(self.folder / "jobs", reserve)
        if free >= reserve:
            return ""
        return f"the server's disk is full: {free >> 20} MiB free, {reserve >> 20} MiB are kept in reserve"


@lru_cache(maxsize=256)
def _files(folder: Path, job: str) -> JobFiles:
    """Return the folder of a job: asked for a dozen times a round, of the jobs that run."""
    return JobFiles(folder / "jobs" / job)


def sync_folder(folder: Path) -> None:
    """Sync a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Sync a file and its name to the disk."""
    sync_folder(path)
    sync_folder(path.parent)
