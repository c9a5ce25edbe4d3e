"""`convoy job check`: the checks of a submit, here and now, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from convoy.flows import findings
from convoy.spec.yamls import together
from convoy.trust import folders


class Checked(TypedDict):
    """What a job's folder holds."""

    name: str
    files: int
    bytes: int
    shadowed: list[str]


def check(folder: Path) -> Checked:
    """Return what the folder holds. Raises `BadInput` for what is wrong with it, with file and line."""
    files = folders.gather_job(folder)
    found = findings.find(files)
    if found.problems or found.job is None:
        raise together(found.problems)
    return Checked(name=found.job.name, files=len(files), bytes=sum(map(len, files.values())), shadowed=found.shadowed)
