"""`convoy job check`: the checks of a submit, here and now, without a server."""

from __future__ import annotations

from pathlib import Path

from convoy.errors import BadInput
from convoy.flows.check import check_job
from convoy.spec.job import read_job_document
from convoy.trust import folders


def check(folder: Path) -> dict[str, str | int]:
    """Return what the folder holds. Raises `BadInput` for what is wrong with it, with file and line."""
    files = folders.gather(folder)
    if "job.yaml" not in files:
        raise BadInput(f"{folder} has no job.yaml", fix="`convoy job new NAME` writes a folder that runs")
    try:
        text = files["job.yaml"].decode()
    except UnicodeDecodeError as problem:
        raise BadInput("job.yaml is not UTF-8 text", why=str(problem)) from problem
    job, document = read_job_document(text, name="job.yaml")
    check_job(job, document, files, None)
    return {"name": job.name, "files": len(files), "bytes": sum(map(len, files.values()))}
