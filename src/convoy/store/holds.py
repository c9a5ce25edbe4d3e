"""Who holds which blob of a folder: a hard link for each holder, so that the file system counts."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convoy.errors import NotFound
from convoy.store.disk import DRAFT, draft_of, name_of
from convoy.store.spares import worth

PART: Final = ".part"
HOLDS: Final = "holds"
Hold = tuple[str, str]  # a holder and the digest that it holds


@dataclass(frozen=True, slots=True)
class Holds:
    """The holders of the blobs in one folder. It keeps no state beside the files."""

    blobs: Path

    @property
    def folder(self) -> Path:
        """Where the links of the holders are."""
        return self.blobs / HOLDS

    def all(self) -> set[Hold]:
        """Return who holds what, blobs that are still coming in included."""
        try:
            names = os.listdir(f"{self.blobs}/{HOLDS}")  # noqa: PTH208 - twice as fast
        except FileNotFoundError:
            return set()
        return {_hold(name.removesuffix(PART)) for name in names if not name.endswith(DRAFT)}

    def let_go(self, holds: Iterable[Hold]) -> list[Path]:
        """Let go of many blobs at once; return the large files, under names that nobody else uses.

        Freeing the pages of 100 MB takes 3 to 60 ms: that is for a thread, while the names are free already.
        """
        away: list[Path] = []
        with self.alone():
            for holder, digest in holds:
                mark, path = self.mark(holder, digest), self._name(digest)
                with suppress(FileNotFoundError):
                    os.unlink(f"{mark}{PART}")  # noqa: PTH108 - strings: many a round, and Paths take longer than calls
                with suppress(FileNotFoundError):
                    os.unlink(mark)  # noqa: PTH108
                    status = os.stat(path)  # noqa: PTH116
                    if status.st_nlink > 1:
                        continue
                    if not worth(status.st_size):
                        os.unlink(path)  # noqa: PTH108
                    else:
                        away.append(Path(path).rename(draft_of(Path(path))))
        return away

    def mark(self, holder: str, digest: str) -> str:
        """Return the name of a holder's link to a blob."""
        return f"{self.blobs}/{HOLDS}/{holder}~{digest}"

    def _name(self, digest: str) -> str:
        return f"{self.blobs}/{name_of(digest)}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads from changing names, for a few system calls. Raises `NotFound` when the folder is gone."""
        try:
            descriptor = self._opened()
        except FileNotFoundError as problem:
            raise NotFound("the job's blobs are gone", why=str(self.blobs)) from problem
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _opened(self) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            return os.open(f"{self.blobs}/{HOLDS}", flags)
        except FileNotFoundError:
            self.folder.mkdir(exist_ok=True)
            return os.open(self.folder, flags)

    def link(self, holder: str, digest: str) -> bool:
        """Link a blob that is here to a holder; return whether it is here. Call it inside of `alone`."""
        mark, path = self.mark(holder, digest), self._name(digest)
        try:
            os.link(path, mark)
        except FileExistsError:
            if not Path(path).exists():
                os.link(mark, path)
        except FileNotFoundError:
            return False
        return True

    def keep(self, holder: str, digest: str, draft: Path) -> None:
        """Make a file that is whole the blob, and its holder's, at once; one with these bytes may be here by now."""
        path = self._name(digest)
        with self.alone():
            if not self.link(holder, digest):
                os.link(draft, self.mark(holder, digest))
                draft.rename(path)
                return
        draft.unlink()


def unlink(paths: Iterable[Path]) -> None:
    """Remove files that `let_go` has taken out of use."""
    for path in paths:
        path.unlink(missing_ok=True)


def _hold(name: str) -> Hold:
    holder, _, digest = name.partition("~")
    return holder, digest
