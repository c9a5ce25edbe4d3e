"""Jobs that were uploaded or read and are not submitted yet: exactly these bytes are checked, shown and signed."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from convoy.errors import BadInput, NotFound
from convoy.spec import jsons
from convoy.trust import bundle, folders, paths

MAX_DRAFTS: Final = 3  # that are kept in memory; a further one takes the place of the oldest
MAX_LIST: Final = bundle.MAX_ENVELOPE  # bytes of the list of files that stands before their bytes
MAX_UPLOAD: Final = bundle.MAX_BYTES + MAX_LIST + 4  # bytes of a whole upload
HEAD: Final = 4  # bytes that say how long the list is


@dataclass(frozen=True, slots=True)
class Draft:
    """The files of a job by their paths; nobody changes them any more."""

    id: str
    source: str  # where they are from, for people
    files: Mapping[str, bytes] = field(repr=False)
    left_out: int = 0  # files that editors and Python leave behind
    signed: bytes = field(default=b"", repr=False)  # as it was sent before, where no answer came: again it is one job

    def listed(self) -> Iterator[tuple[str, int, str]]:
        """Yield each file's path, its size and its SHA-256, as they are signed."""
        for path in sorted(self.files):
            yield path, len(self.files[path]), hashlib.sha256(self.files[path]).hexdigest()

    def digest(self) -> str:
        """Return one SHA-256 over the list of all files."""
        text = "".join(f"{digest}  {size}  {path}\n" for path, size, digest in self.listed())
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(slots=True)
class Drafts:
    """The newest drafts, in memory alone."""

    kept: dict[str, Draft] = field(default_factory=dict)
    uploading: bool = False  # one at a time, so that memory has a bound

    def add(self, source: str, files: Mapping[str, bytes], left_out: int = 0) -> Draft:
        """Keep the files of a job and return them as a draft."""
        made = Draft(secrets.token_urlsafe(16), source, files, left_out)
        self.restore(made)
        return made

    def restore(self, draft: Draft) -> None:
        """Keep a draft again that was not submitted, or of which nobody knows."""
        while len(self.kept) >= MAX_DRAFTS:
            del self.kept[next(iter(self.kept))]
        self.kept[draft.id] = draft

    def get(self, name: str) -> Draft:
        """Return a draft. Raises `NotFound`."""
        if name not in self.kept:
            raise NotFound(
                "these files are not here any more",
                why=f"they were submitted, or {MAX_DRAFTS} newer uploads have taken their place",
                fix="choose the folder again",
            )
        return self.kept[name]

    def take(self, name: str) -> Draft:
        """Return a draft and forget it, so that it is submitted once. Raises `NotFound`."""
        found = self.get(name)
        del self.kept[name]
        return found


def unframed(data: bytes) -> tuple[dict[str, bytes], int]:
    """Return the files of an upload, and how many were left out because editors and Python leave them behind.

    An upload is the length of a list (4 bytes, little-endian), the list of paths and sizes as JSON in ASCII, and the
    bytes of the files one after the other. Raises `BadInput` for anything else, and for paths that no job may have.
    """
    length = int.from_bytes(data[:HEAD], "little")
    if length > MAX_LIST or HEAD + length > len(data):
        raise _damaged(f"its list of files has {length:,} bytes")
    listed = _list(data[HEAD : HEAD + length])
    if sum(size for _, size in listed) != len(data) - HEAD - length:
        raise _damaged("the sizes of its files are not the number of its bytes")
    files: dict[str, bytes] = {}
    start, left_out = HEAD + length, 0
    of_job = folders.of_job(unicodedata.normalize("NFC", path) for path, _ in listed)
    for path, size in listed:
        name = unicodedata.normalize("NFC", path)
        if name not in of_job:
            left_out += 1
        elif name in files:
            raise BadInput(f"{name[:200]!r} is in the folder twice", fix="rename one of the two")
        else:
            files[name] = data[start : start + size]
        start += size
    check(files)
    return files, left_out


def _list(data: bytes) -> list[tuple[str, int]]:
    try:
        said = jsons.load(data, most=bundle.MAX_LISTS)
        found = [(path, size) for path, size in said]
    except (ValueError, TypeError, RecursionError) as problem:
        raise _damaged("its list of files cannot be read") from problem
    if not all(isinstance(path, str) and type(size) is int and size >= 0 for path, size in found):
        raise _damaged("its list of files is not one of paths and sizes")
    return found


def check(files: Mapping[str, bytes]) -> None:
    """Raise `BadInput` for files that no bundle may hold: their paths, their number, their size, no job.yaml."""
    total = sum(map(len, files.values()))
    if len(files) > bundle.MAX_FILES or total > bundle.MAX_BYTES:
        raise BadInput(
            f"{len(files):,} files of {total:,} bytes are too many for a job",
            why=f"a job holds at most {bundle.MAX_FILES:,} files and {bundle.MAX_BYTES:,} bytes",
            fix="keep data out of the job folder: each site names its own data in local/node.yaml",
        )
    problem = paths.problem(sorted(files))
    if problem:
        raise BadInput(f"a job cannot carry this file: {problem}", fix="rename it, or remove it from the job folder")
    if "job.yaml" not in files:
        raise BadInput(
            "the folder has no job.yaml",
            why=f"it has {len(files):,} other files",
            fix="choose the job folder itself; `convoy job new NAME` writes one that runs",
        )


def _damaged(why: str) -> BadInput:
    return BadInput("the upload is damaged", why=why, fix="reload the page and choose the folder again")
