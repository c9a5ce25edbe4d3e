"""A simulator's worker as an actor on a machine of a Ray cluster: it does visits as a worker process does."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import convoy
from convoy.model import blob
from convoy.model.arrays import NO_ARRAYS, Model, views
from convoy.store.disk import name_of
from convoy.store.points import FOLDER
from convoy.wire import convoy_pb2 as pb
from convoy.worker import site_folders
from convoy.worker.visitor import Work
from convoy.worker.visits import LOGS, PLACES, Visits, given_at

if TYPE_CHECKING:
    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

MOST_PRINTED: Final = 8 << 20  # bytes of what one visit prints: the first and the last half of these are kept


class Actor:
    """Does visits; what they need comes with them, what they made and printed goes back."""

    def __init__(self, name: str, begin: bytes, files: Mapping[str, bytes]) -> None:
        """Write the job's files into a new folder `name` of this machine; `begin` is a `BeginTrainer`."""
        self._place = Path(tempfile.gettempdir()) / name
        self._place.mkdir(mode=0o700)
        self._out, code = self._place / "out", self._place / "code"
        (self._out / LOGS).mkdir(parents=True)
        code.mkdir()
        for path, data in files.items():
            (code / path).parent.mkdir(parents=True, exist_ok=True)
            (code / path).write_bytes(data)
        told = pb.BeginTrainer.FromString(begin)
        config = json.loads(told.config_json or "{}")
        work = Work(told.job, told.name, code, told.trainer, config, told.seed, told.model)
        self._lent: dict[str, Bytes | None] = {}  # blobs of the current visit, by digest
        self._visits = Visits(work, self._load, self._out)

    def _load(self, digest: str) -> Model:
        data = self._lent.get(digest)
        if data is None:
            return NO_ARRAYS
        header = data[: blob.header_length(data[:8].tobytes())]
        layout = blob.parse(header.tobytes(), expect=digest)
        return views(layout, data)

    def visit(self, frame: bytes, model: Bytes | None, state: Bytes | None) -> tuple[bytes, bytes, dict[str, Bytes]]:
        """Do a visit; return a `WorkerUp`, what was printed, and by digest the blobs that do not fit into a message."""
        visit = pb.Visit.FromString(frame)
        self._lent = {visit.question.model: model, visit.state: state}
        with self._visits.working():
            up = self._visits.visit(visit)
        self._lent = {}
        place = given_at(self._out, visit.site, visit.question.id)
        made = ({up.answer.digest} - {visit.question.model} | {up.answer.state}) - {""}
        large = {digest: np.fromfile(place / name_of(digest), np.uint8) for digest in made}
        if made:
            shutil.rmtree(place)
        return up.SerializeToString(), self._printed(visit.site), large

    def _printed(self, site: str) -> bytes:
        log = self._out / LOGS / f"{site}.log"
        if not log.exists():
            return b""
        text = bounded(log)
        log.unlink()
        return text

    def close(self) -> dict[str, bytes]:
        """Let every site's trainer come to its end; return what that printed, by site."""
        with self._visits.working():
            self._visits.close()
        return {file.stem: self._printed(file.stem) for file in sorted((self._out / LOGS).iterdir())}

    def artifacts(self) -> list[str]:
        """Return the paths of what the sites' trainers have kept and measured, as `read` takes them."""
        kept = (file for _, folder in site_folders.artifacts(self._out / PLACES) for file in sorted(folder.rglob("*")))
        found = [*kept, *(self._out / FOLDER).glob("*.jsonl")]
        return [str(file.relative_to(self._out)) for file in found if file.is_file()]

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        return (self._out / path).read_bytes()

    def remove(self) -> None:
        """Remove everything from this machine."""
        shutil.rmtree(self._place, ignore_errors=True)


def bounded(log: Path) -> bytes:
    """Return what a log holds; of a long one its beginning and its end."""
    half = MOST_PRINTED // 2
    with log.open("rb") as file:
        text = file.read(half)
        lost = max(0, log.stat().st_size - 2 * half)
        if lost:
            text += b"\nconvoy: %d bytes of output are missing here\n" % lost
        file.seek(lost, os.SEEK_CUR)
        return text + file.read(half)


def version() -> str:
    """Return Convoy's version on a machine."""
    return convoy.__version__


def clear(names: Sequence[str]) -> None:
    """Remove the folders of actors that have died, where they are on this machine."""
    for name in names:
        shutil.rmtree(Path(tempfile.gettempdir()) / name, ignore_errors=True)
