"""One root takes another's place: `begin`, both are trusted; `turn`, the new one signs; `finish`, it is alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from convoy.errors import BadInput
from convoy.trust.authority import Authority, read_certificate


def begin(project: str, state: Path) -> None:
    """Make the root that comes. Raises `BadInput` while one comes already."""
    _check_none_comes(state)
    coming = state / "next"
    coming.mkdir(mode=0o700, exist_ok=True)
    Authority.create(project, coming, now=time.time())


def turn(state: Path) -> None:
    """Let the root that comes sign from now on. Raises `BadInput` where none comes."""
    coming = _coming(state)
    (state / "retiring.crt").write_bytes((state / "root.crt").read_bytes())
    (coming / "root.key").replace(state / "root.key")
    mend(state)


def finish(state: Path) -> None:
    """Trust the old root no more. Raises `BadInput` where none retires."""
    check("finish", state)
    old = read_certificate((state / "retiring.crt").read_bytes())
    (state / "retired").mkdir(mode=0o700, exist_ok=True)
    (state / "retiring.crt").replace(state / "retired" / f"{old.serial_number:x}.crt")


def mend(state: Path) -> None:
    """Bring to its end what was cut short between two files."""
    coming = state / "next"
    if (coming / "root.crt").exists() and not (coming / "root.key").exists():
        (coming / "root.crt").replace(state / "root.crt")
        coming.rmdir()


def newest(state: Path) -> Authority:
    """Return the root that comes, else the one that is."""
    coming = state / "next"
    return Authority.load(coming if (coming / "root.crt").exists() else state)


def listed(state: Path) -> tuple[bytes, ...]:
    """Return the roots that everybody is to trust, the one that signs first."""
    there = (state / "root.crt", state / "next" / "root.crt", state / "retiring.crt")
    return tuple(file.read_bytes() for file in there if file.exists())


def trusted(state: Path) -> bytes:
    """Return these roots as one file."""
    return b"".join(listed(state))


def ever(state: Path) -> bytes:
    """Return every root that there has been."""
    return trusted(state) + b"".join(retired(state))


def retired(state: Path) -> tuple[bytes, ...]:
    """Return the roots of former days."""
    return tuple(file.read_bytes() for file in sorted((state / "retired").glob("*.crt")))


def begun_at(state: Path) -> float:
    """Return when the root that comes was made, in wall seconds. Raises `BadInput` where none comes."""
    return (_coming(state) / "root.crt").stat().st_mtime


def _check_none_comes(state: Path) -> None:
    if (state / "next" / "root.crt").exists() or _retiring(state):
        raise BadInput("the root is already being replaced", fix="run `convoy federation roll turn`, then `finish`")


def _coming(state: Path) -> Path:
    coming = state / "next"
    if not (coming / "root.crt").exists():
        raise BadInput("there is no new root yet", fix="convoy federation roll begin")
    return coming


def _retiring(state: Path) -> bool:
    return (state / "retiring.crt").exists()


def check(word: str, state: Path) -> None:
    """Raise `BadInput` unless this step is the next."""
    if word == "begin":
        _check_none_comes(state)
    elif word == "turn":
        _coming(state)
    elif not _retiring(state):
        raise BadInput("no old root waits to be retired", fix="run `convoy federation roll begin`, then `turn`")


def step(word: str, project: str) -> Callable[[Path], None]:
    """Return the step of this name."""
    steps: dict[str, Callable[[Path], None]] = {"begin": partial(begin, project), "turn": turn, "finish": finish}
    return steps[word]
