"""What `convoy job check` finds in the files of a job before it is submitted: everything, each at its line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convoy.errors import BadInput
from convoy.flows.check import every_problem
from convoy.spec import yamls
from convoy.spec.job import tried

if TYPE_CHECKING:
    from convoy.flows.check import Room
    from convoy.spec.job import Job


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found; `job` is None where job.yaml describes none. `shadowed` files are no error."""

    job: Job | None
    problems: list[BadInput]
    shadowed: list[str]


def find(
    files: Mapping[str, bytes],
    known_sites: Iterable[str] | None = None,
    room: Mapping[str, Room] | None = None,
) -> Findings:
    """Return what is wrong with a job's files, of which none is run."""
    hidden = shadowed(files)
    try:
        document = yamls.load(files["job.yaml"].decode(), name="job.yaml")
        job = tried(document)
    except UnicodeDecodeError as problem:
        return Findings(None, [BadInput("job.yaml is not UTF-8 text", why=str(problem))], hidden)
    except BadInput as problem:
        return Findings(None, [problem], hidden)
    if isinstance(job, list):
        return Findings(None, job, hidden)
    return Findings(job, every_problem(job, document, files, known_sites, room), hidden)


def shadowed(files: Iterable[str]) -> list[str]:
    """Return the files of a job that its own imports do not find: a module of Python or of Convoy has their name."""
    taken = sys.stdlib_module_names | {"convoy"}
    names = {file: file.removesuffix("/__init__.py").removesuffix(".py") for file in files if file.endswith(".py")}
    return sorted(file for file, name in names.items() if name in taken)
