"""A job's folder, read into the files of a bundle."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from convoy.errors import BadInput
from convoy.spec import yamls
from convoy.trust.bundle import MAX_BYTES, MAX_FILES

SKIPPED: Final = frozenset(  # what editors, Python and git leave behind
    {"__pycache__", ".git", ".gitignore", ".gitattributes", ".venv", ".vscode", ".idea", ".ipynb_checkpoints"}
    | {".DS_Store", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".editorconfig", ".python-version"}
)


def gather_job(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder that has a job.yaml. Raises `BadInput` as `gather` does, and where there is none."""
    files = gather(folder)
    if "job.yaml" not in files:
        raise BadInput(f"{folder} has no job.yaml", fix="`convoy job new NAME` writes a job folder that runs")
    return files


def gather(folder: Path) -> dict[str, bytes]:
    """Return a job folder's files by their relative paths, in order; what editors and Python leave behind stays out.

    Raises `BadInput` for a folder that is not there, links, and more than a bundle holds.
    """
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}", fix="`convoy job new` writes a job folder that runs")
    files: dict[str, bytes] = {}
    total = 0
    for path in _walk(folder):
        total += path.stat().st_size
        if total > MAX_BYTES or len(files) >= MAX_FILES:
            raise BadInput(
                f"{folder} is too large for a job",
                why=f"at {path.relative_to(folder)} it passed {MAX_FILES:,} files or {MAX_BYTES:,} bytes",
                fix="keep data out of the job folder: each site names its own data in local/node.yaml",
            )
        files[unicodedata.normalize("NFC", path.relative_to(folder).as_posix())] = path.read_bytes()
    return files


def is_left_behind(path: str) -> bool:
    """Return whether a relative path is of what editors, Python and git leave behind, and belongs to no job."""
    parts = path.split("/")
    return not SKIPPED.isdisjoint(parts) or any(part.endswith(".pyc") for part in parts)


def targets(files: Mapping[str, bytes | memoryview]) -> list[str] | None:
    """Return the sites that a job's job.yaml names, None for all; whether they are any good, its checks say later.

    Raises `BadInput` if it is no YAML.
    """
    text = bytes(files["job.yaml"]).decode("utf-8-sig", errors="replace")
    named = yamls.load(text, name="job.yaml").mapping().get("sites")
    return named if isinstance(named, list) and all(isinstance(site, str) for site in named) else None


def _walk(folder: Path) -> list[Path]:
    """Return every file below `folder`, sorted. Raises `BadInput` for a link or a device."""
    found = []
    for path in sorted(folder.iterdir()):
        if is_left_behind(path.name):
            continue
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise BadInput(
                f"{path} is not a plain file", why="a job contains files, not links", fix="copy the file itself"
            )
        found += _walk(path) if path.is_dir() else [path]
    return found
