"""`python -m convoy.kube.unpack FOLDER`: in the helper pod, a folder becomes what a tar on standard input holds."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path
from typing import IO, Final

MAX_FILES: Final = 32  # of a kit: it has 9
MAX_BYTES: Final = 8 << 20  # of one file: invites.json has at most 4 MiB


def unpack(stream: IO[bytes], folder: Path) -> None:
    """Let a folder hold the files of a tar, for its owner alone, and nothing else; none: no folder.

    Whoever reads a file meanwhile reads the old one or the new one. Raises `ValueError` for anything but plain files.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    kept: set[str] = set()
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if not member.isreg() or "/" in member.name or member.name.startswith("."):
                raise ValueError(f"{member.name!r} is not a plain file")
            if member.size > MAX_BYTES or len(kept) >= MAX_FILES:
                raise ValueError(f"{member.name!r} exceeds what a kit may contain")
            data = tar.extractfile(member)
            _write(folder / member.name, data.read() if data else b"")
            kept.add(member.name)
    for old in folder.iterdir():
        if old.name not in kept:
            old.unlink()
    if not kept:
        folder.rmdir()


def _write(file: Path, data: bytes) -> None:
    draft = file.with_name(f".{file.name}.part")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)


if __name__ == "__main__":
    unpack(sys.stdin.buffer, Path(sys.argv[1]))
