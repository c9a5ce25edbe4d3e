"""Artifacts of a trainer for the people of its site: regular files of its artifacts/ folder, of limited total size."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convoy import errors
from convoy.node.leftovers import MAX_DEPTH, files, length, opened
from convoy.spec.printable import one_line
from convoy.worker.site_folders import ARTIFACTS

FOLDER: Final = ARTIFACTS  # in the folder that the trainer runs in, and in the node's workspace
MAX_FILES: Final = 10_000  # of one job
SHOWN: Final = 5  # names in one line of a log


@dataclass(frozen=True, slots=True)
class Left:
    """Files that a job wrote: artifacts that are kept, those that are not, and files removed with the job."""

    files: int
    size: int
    refused: tuple[str, ...]  # artifacts that are not regular files, too deep, or beyond the bound
    gone: tuple[str, ...]  # files outside artifacts/

    def lines(self, site: str, target: Path) -> Iterator[str]:
        """Yield the lines for the job's log."""
        if self.files:
            yield f"{self.files} files ({self.size} bytes) of {FOLDER}/ are kept at {site}: {target}"
        if self.refused:
            why = f"not a regular file, below more than {MAX_DEPTH} folders, or beyond the site's `artifacts`"
            yield f"not kept of {FOLDER}/: {some(self.refused)}: {why}"
        if self.gone:
            yield f"removed with the job: {some(self.gone)}; what a trainer writes to {FOLDER}/ stays at {site}"


def keep(code: Path, home: Path, name: str, known: Collection[str] | None, most: int) -> Left:
    """Copy the artifacts of the job in `code` into `home`/`name`; at most `most` bytes for all jobs together.

    `known` are the files of the job's bundle; None: nobody knows them, and nothing is said of what is gone. The oldest
    artifacts are removed first. The job's processes have ended; links are not followed, and only regular files are
    opened.
    """
    kept, size, refused = 0, 0, []
    for path in files(code / FOLDER):
        shown = str(path.relative_to(code / FOLDER))
        here = length(path)
        if here < 0 or size + here > most or kept == MAX_FILES:
            refused.append(shown)
            continue
        if not kept:
            _make_room(home, name)
        target = home / name / shown
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened(path) as reading, target.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
        kept, size = kept + 1, size + here
    _make_room(home, name, most)
    gone = (
        str(path.relative_to(code))
        for path in files(code)
        if FOLDER not in path.relative_to(code).parts[:1] or path == code / FOLDER  # a file of this name is no folder
    )
    return Left(kept, size, tuple(refused), tuple(path for path in gone if known is not None and path not in known))


def _make_room(home: Path, name: str, most: int | None = None) -> None:
    """Remove what an earlier run of the same job kept; with `most`, the oldest jobs' artifacts until the rest fits."""
    if most is None:
        shutil.rmtree(home / name, ignore_errors=True)
        return
    if not home.is_dir():
        return
    folders = sorted((it for it in home.iterdir() if it.name != name), key=lambda it: it.stat().st_mtime)
    sizes = {it: sum(length(path) for path in files(it)) for it in (*folders, home / name)}
    for folder in folders:
        if sum(sizes.values()) <= most:
            return
        shutil.rmtree(folder, ignore_errors=True)
        del sizes[folder]


def some(names: Collection[str]) -> str:
    """Return the first of these names, and how many more there are."""
    return errors.some([*map(one_line, names)], SHOWN)
