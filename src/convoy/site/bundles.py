"""Bundles of jobs that this site took, kept after the jobs for its owner, who reads and compares them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

FOLDER: Final = "bundles"  # in the site's working folder; a file for each digest
MAX_KEPT: Final = 128 << 20  # bytes of bundles of jobs that ran; those that came first go first


def keep(bundle: Path, workspace: Path, digest: str, most: int = MAX_KEPT) -> None:
    """Keep a job's bundle under its digest, as a link to the same bytes; on a full disk it is not kept."""
    folder = workspace / FOLDER
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        place = folder / digest
        if not place.exists():
            os.link(bundle, place)  # its time stays that of its arrival
        _trim(folder, most)


def kept(workspace: Path, digest: str) -> Path | None:
    """Return the file of a bundle that ran here, None if it is not kept."""
    place = workspace / FOLDER / digest
    return place if place.is_file() else None


def _trim(folder: Path, most: int) -> None:
    found = sorted(((it.stat().st_mtime, it.stat().st_size, it) for it in folder.iterdir()), reverse=True)
    total = 0
    for _, size, path in found:
        total += size
        if total > most:
            path.unlink(missing_ok=True)
