"""`convoy job check`: the checks of a submit, here and now, without a server."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from convoy.errors import BadInput
from convoy.flows.check import check_job
from convoy.spec.job import read_job_document
from convoy.trust import folders


class Checked(TypedDict):
    """What a job's folder holds."""

    name: str
    files: int
    bytes: int
    shadowed: list[str]


def shadowed(files: Iterable[str]) -> list[str]:
    """Return the files of a job that its own imports do not find: a module of Python or of Convoy has their name."""
    taken = sys.stdlib_module_names | {"convoy"}
    names = {file: file.removesuffix("/__init__.py").removesuffix(".py") for file in files if file.endswith(".py")}
    return sorted(file for file, name in names.items() if name in taken)


def check(folder: Path) -> Checked:
    """Return what the folder holds. Raises `BadInput` for what is wrong with it, with file and line."""
    files = folders.gather_job(folder)
    try:
        text = files["job.yaml"].decode()
    except UnicodeDecodeError as problem:
        raise BadInput("job.yaml is not UTF-8 text", why=str(problem)) from problem
    job, document = read_job_document(text, name="job.yaml")
    check_job(job, document, files, None)
    return Checked(name=job.name, files=len(files), bytes=sum(map(len, files.values())), shadowed=shadowed(files))
