"""What is told of a job in its results: every round, the metrics of those committed, and the job itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convoy.errors import FULL, StorageFull

if TYPE_CHECKING:  # a command that only reads results does without the server's records
    import numpy as np

    from convoy.control.costs import Cost
    from convoy.control.records import Job, Round, SiteName
    from convoy.control.view import ReadOnlyJob

ROUNDS: Final = ("rounds.json", "metrics.jsonl")  # every round with its sites, a line each; metrics of those committed
JOB: Final = "job.json"
RESOURCES: Final = "resources.json"  # what the answers of each site took
STATISTICS: Final = "statistics.json"  # of tables; a model has it as an array of that name, uint8
LAST: Final = "model.safetensors"
BEST: Final = "best.safetensors"  # where it is not the last one


def write_rounds(rounds: Iterable[Round], folder: Path) -> None:
    """Write the files of `ROUNDS`, one round at a time, since a long history is large. Raises `StorageFull`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ROUNDS:
            (folder / name).unlink(missing_ok=True)  # of an earlier attempt: it may be a second name of a result
        with (folder / ROUNDS[0]).open("w") as whole, (folder / ROUNDS[1]).open("w") as metrics:
            lead = "[\n"
            for record in rounds:
                parts = {one.name: getattr(record, one.name) for one in fields(record)}
                spread = {site: {"norm": it.norm, "cosine": it.cosine} for site, it in record.spread.items()}
                whole.write(lead + json.dumps(parts | {"spread": spread}))
                lead = ",\n"
                if record.model:
                    metrics.write(json.dumps({"round": record.round, **record.metrics}) + "\n")
            whole.write("\n]" if lead != "[\n" else "[]")
    except OSError as problem:
        if problem.errno not in FULL:
            raise
        raise StorageFull("no room for the results", why=str(problem)) from problem


def write_resources(spent: Mapping[SiteName, Cost], folder: Path) -> None:
    """Write what the answers of each site took, every number of `Cost`, also of 0. Raises `StorageFull`."""
    whole = {site: cost._asdict() for site, cost in sorted(spent.items())}
    _write(folder / RESOURCES, json.dumps(whole, indent=1).encode())


def write_statistics(model: Mapping[str, np.ndarray[Any, Any]], folder: Path) -> None:
    """Write the `statistics.json` that a model has as an array, if it has one. Raises `StorageFull`."""
    text = model.get(STATISTICS)
    if text is None or text.dtype != "uint8":
        return
    _write(folder / STATISTICS, text.tobytes())


def _write(file: Path, data: bytes) -> None:
    try:
        file.unlink(missing_ok=True)  # it may be a second name of a result
        file.write_bytes(data)
    except OSError as problem:
        if problem.errno not in FULL:
            raise
        raise StorageFull("no room for the results", why=str(problem)) from problem


def models(job: ReadOnlyJob) -> dict[str, str]:
    """Return the digests of the models that a job leaves, by the names of their files."""
    if job.last is None:
        return {}
    best = job.best is not None and job.best.model != job.last.model
    return {LAST: job.last.model} | ({BEST: job.best.model} if best and job.best else {})


def job_json(job: Job, *, ended_at: float) -> str:
    """Return a job that ends now as JSON, with its job.yaml in place of that's text."""
    record = asdict(job) | {"spec": spec_of(job.spec), "state": job.outcome, "ended_at": ended_at}
    return json.dumps(record, indent=1)


def spec_of(text: str) -> dict[str, object]:
    """Return a stored job.yaml; empty if it cannot be read, so that the rest of the job can be shown."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
