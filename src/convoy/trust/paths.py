"""Which file names may come from elsewhere: relative, plain, the same on every machine, and nothing to a tool."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

MAX_PATH: Final = 1024  # bytes in UTF-8 of a whole path: a quarter of what Linux accepts, so it fits below any folder
MAX_PART: Final = 255  # bytes in UTF-8; the file systems' own limit
_BAD: Final = frozenset('\\:*?"<>|')  # what some system reads as something else
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # categories: nobody sees what they do to a name
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])(?:\..*)?")


def problem(listed: Sequence[str]) -> str:
    """Return what is wrong with a bundle's sorted list of paths, or "" if it is safe to unpack."""
    return next((f"{path!r} {why}" for path, why in _judged(listed) if why), "")


def refused(listed: Sequence[str]) -> dict[str, str]:
    """Return why paths of a sorted list are not safe to unpack; without them the others are."""
    return {path: why for path, why in _judged(listed) if why}


def _judged(listed: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each path and why it is not safe beside the safe ones before it, or ""."""
    folders: set[str] = set()
    files: set[str] = set()
    previous = ""
    for path in listed:
        why = _why_not(path)
        if why:
            yield path, why
            continue
        if files and path <= previous:
            yield path, f"follows {previous!r}: the list is not sorted, or contains it twice"
            continue
        previous = path
        folded = _folded(path)
        parts = folded.split("/")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if folded in files or folded in folders or above & files:
            yield path, "is in the list twice for a file system that ignores case or Unicode forms"
            continue
        files.add(folded)
        folders |= above
        yield path, ""


def _folded(path: str) -> str:
    """Return what two names have in common that some system, or some reader, takes for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def _why_not(path: str) -> str:
    """Return why a single path is not safe, or ""."""
    size = len(path.encode(errors="surrogatepass"))
    if not path or size > MAX_PATH:
        return f"has {size:,} bytes; a path has from 1 to {MAX_PATH:,}"
    if _BAD & set(path):
        return "contains a character that file systems treat differently"
    if not path.isprintable() or not _UNSEEN.isdisjoint(map(unicodedata.category, path)):
        return "contains a character that is invisible or changes the direction of text"
    if unicodedata.normalize("NFC", path) != path:
        return "is not in Unicode's composed form (NFC)"
    return next(filter(None, map(_why_no_part, path.split("/"))), "")


def _why_no_part(part: str) -> str:
    """Return why a part between two slashes is not safe, or ""."""
    if part in ("", ".", "..") or part.endswith((" ", ".")):
        return "is not a plain relative path"
    if part.startswith((".", "-", "~", " ")):
        return f"has a part that begins with {part[0]!r}: tools read settings or options there"
    if _DEVICES.fullmatch(_folded(part)):
        return "has a part that names a device on Windows"
    return f"has a part of more than {MAX_PART} bytes" if len(part.encode()) > MAX_PART else ""
