"""A job's folder, read into the files of a bundle."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from convoy.errors import BadInput
from convoy.spec import yamls
from convoy.trust import paths
from convoy.trust.bundle import MAX_BYTES, MAX_FILES

SKIPPED: Final = frozenset(  # what editors, Python and git leave behind
    {"__pycache__", ".git", ".gitignore", ".gitattributes", ".venv", ".vscode", ".idea", ".ipynb_checkpoints"}
    | {".DS_Store", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".editorconfig", ".python-version"}
)
ENVIRONMENT: Final = "pyvenv.cfg"  # lies in each virtual environment of Python, whatever its name is


def gather_job(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder that has a job.yaml. Raises `BadInput` as `gather` does, and where there is none."""
    files = gather(folder)
    if "job.yaml" not in files:
        raise BadInput(f"{folder} has no job.yaml", fix="`convoy job new NAME` writes a job folder that runs")
    return files


def gather(folder: Path) -> dict[str, bytes]:
    """Return a job folder's files by their relative paths, in order; what editors and Python leave behind stays out.

    Raises `BadInput` for a folder that is not there, links, names that no bundle holds, and more than a bundle holds.
    """
    if folder.is_file():
        raise BadInput(f"{folder} is a file", why="a job is a folder", fix=f"give the folder: {folder.parent}")
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}", fix="`convoy job new` writes a job folder that runs")
    found: dict[str, Path] = {}
    for path in _walk(folder):
        name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
        if found.setdefault(name, path) is not path:
            why = "their names differ only in the form of their Unicode, and a bundle has one form"
            raise BadInput(f"{name!r} is in {folder} twice", why=why, fix="rename one of the two")
    _check_size(folder, {name: path.stat().st_size for name, path in found.items()})
    if problem := paths.problem(sorted(found)):
        raise BadInput(f"a job cannot carry this file: {problem}", fix="rename it, or remove it from the job folder")
    return {name: path.read_bytes() for name, path in found.items()}


def _check_size(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raise `BadInput` for more than a bundle holds, with where most of it is."""
    total = sum(sizes.values())
    if len(sizes) <= MAX_FILES and total <= MAX_BYTES:
        return
    many = len(sizes) > MAX_FILES
    weights: Counter[str] = Counter()
    for name, size in sizes.items():
        first, below, _ = name.partition("/")
        weights[first + below if below or not many else "./"] += 1 if many else size
    (place, most), *_ = weights.most_common(1)
    has = f"{len(sizes):,} files" if many else f"{total:,} bytes"
    bound = f"a job holds at most {MAX_FILES:,} files and {MAX_BYTES:,} bytes"
    raise BadInput(
        f"{folder} is too large for a job",
        why=f"it has {has}, {most:,} of them in {place}; {bound}",
        fix="keep data out of the job folder: each site names its own data in local/node.yaml",
    )


def is_left_behind(path: str) -> bool:
    """Return whether a relative path is of what editors, Python and git leave behind, and belongs to no job."""
    parts = path.split("/")
    return not SKIPPED.isdisjoint(parts) or any(part.endswith(".pyc") for part in parts)


def of_job(listed: Iterable[str]) -> set[str]:
    """Return which of a folder's relative paths belong to its job: leftovers and virtual environments do not."""
    rest = {path for path in listed if not is_left_behind(path)}
    outside = tuple(path.removesuffix(ENVIRONMENT) for path in rest if path.endswith(f"/{ENVIRONMENT}"))
    return {path for path in rest if not path.startswith(outside)}


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
        if is_left_behind(path.name) or (path / ENVIRONMENT).is_file():
            continue
        if path.is_symlink():
            raise BadInput(f"{path} is a link", why="a job contains files, not links", fix="copy what it leads to")
        if not (path.is_dir() or path.is_file()):
            raise BadInput(f"{path} is not a plain file", fix="remove it from the job folder")
        found += _walk(path) if path.is_dir() else [path]
    return found
