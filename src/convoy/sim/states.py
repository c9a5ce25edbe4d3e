"""What sites keep from task to task, each in a file: memory does not grow with the number of sites."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from convoy.model.arrays import NO_ARRAYS, Model
from convoy.store import arrays
from convoy.store.blobs import BlobFolder


class States:
    """The states of all sites, by site and the question that each was kept with."""

    def __init__(self, place: Path | None = None) -> None:
        """Hold nothing. `place`: a folder that workers read, too; otherwise a new one comes with the first state."""
        self._place = place
        self._digests: dict[tuple[str, str], str] = {}

    @property
    def folder(self) -> BlobFolder:
        """The folder of their files."""
        if self._place is None:
            self._place = Path(tempfile.mkdtemp(prefix="convoy-states-"))
            weakref.finalize(self, shutil.rmtree, self._place, ignore_errors=True)
        return BlobFolder(self._place)

    def keep(self, site: str, question: str, state: Mapping[str, Any]) -> int:
        """Keep a state; return its bytes."""
        self._digests[site, question] = arrays.save(self.folder, f"{site}.{question}", state)
        return sum(array.nbytes for array in state.values()) or 1

    def load(self, site: str, question: str) -> Model:
        """Return the state that a site kept with its answer to a question; none, no arrays."""
        digest = self._digests.get((site, question), "")
        return arrays.load(self.folder, digest) if digest else NO_ARRAYS

    def settle(self, after: Mapping[Any, str], open_: Collection[str]) -> None:
        """Keep each site's state that counts, and those of open questions; let go of all others."""
        for site, question in list(self._digests):
            if question != after.get(site) and question not in open_:
                self.folder.release(f"{site}.{question}", self._digests.pop((site, question)))
