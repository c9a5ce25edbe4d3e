"""Where the trainer of each site runs, when many share a process: a folder of its own that has the job's files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ARTIFACTS: Final = "artifacts"  # in the folder that a trainer runs in: what it writes there is kept
UNLINKED: Final = (".py", "__pycache__", "job.yaml", "simulate.yaml")  # Python finds its modules by itself


class SiteFolders:
    """Folders by site, made when they are first entered; each has links to the files that a job opens by name."""

    def __init__(self, code: Path, home: Path) -> None:
        """Take the job's folder, and a folder for those of the sites."""
        self._home = home.absolute()  # it is entered from any other folder
        self._links = [file for file in os.scandir(code) if not file.name.endswith(UNLINKED)]
        self._made: set[str] = set()

    @staticmethod
    @contextmanager
    def away() -> Iterator[None]:
        """Come back in the end to the folder that is the current one now, whichever sites' are entered meanwhile."""
        before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield
        finally:
            try:
                os.chdir(before)
            finally:
                os.close(before)

    def enter(self, site: str) -> None:
        """Let a site's folder be the current one."""
        place = f"{self._home}/{site}"
        if site not in self._made:
            self._make(Path(place))
            self._made.add(site)
        os.chdir(place)

    def _make(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)  # it may be there from a worker that has died
        for file in self._links:
            if not os.path.lexists(place / file.name):
                (place / file.name).symlink_to(file.path)


def artifacts(home: Path) -> Iterator[tuple[str, Path]]:
    """Yield each site that has artifacts, and their folder, in which there is nothing but plain files any more."""
    for place in sorted(home.iterdir()) if home.is_dir() else ():
        folder = place / ARTIFACTS
        if not folder.is_dir() or folder.is_symlink() or place.is_symlink():
            continue
        for at, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = Path(at, name)
                if path.is_symlink() or not (path.is_file() or path.is_dir()):
                    path.unlink()
        yield place.name, folder
