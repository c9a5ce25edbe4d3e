"""Which file names a bundle may hold: relative, plain, and the same on every machine."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

MAX_PATH: Final = 1024  # bytes in UTF-8, of a whole path: a quarter of what Linux takes, below any folder of ours
MAX_PART: Final = 255  # bytes in UTF-8; the file systems' own limit
_BAD: Final = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|\ud800-\udfff]')  # what some system reads as something else


def problem(listed: Sequence[str]) -> str:
    """Return what is wrong with a bundle's sorted list of paths, or "" if it is safe to unpack."""
    folders: set[str] = set()
    files: set[str] = set()
    previous = ""
    for path in listed:
        why = _why_not(path)
        if why:
            return f"{path!r} {why}"
        if files and path <= previous:
            return f"{path!r} stands after {previous!r}: the list is not sorted, or has it twice"
        previous = path
        folded = path.casefold()
        parts = folded.split("/")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if folded in files or folded in folders or above & files:
            return f"{path!r} stands there twice for a file system that ignores case"
        files.add(folded)
        folders |= above
    return ""


def _why_not(path: str) -> str:
    """Return why a single path is not safe, or ""."""
    size = len(path.encode(errors="surrogatepass"))
    if not path or size > MAX_PATH:
        return f"has {size:,} bytes; a path has from 1 to {MAX_PATH:,}"
    if _BAD.search(path):
        return "holds a character that file systems read in different ways"
    if unicodedata.normalize("NFC", path) != path:
        return "is not in Unicode's composed form (NFC)"
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.endswith((" ", ".")) for part in parts):
        return "is not a plain relative path"
    return f"has a part of more than {MAX_PART} bytes" if max(len(part.encode()) for part in parts) > MAX_PART else ""
