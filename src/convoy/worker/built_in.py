"""Convoy's own trainer, for jobs that bring no code to the sites: a function for each kind of question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from convoy.errors import BadInput
from convoy.worker.clusters import kmeans
from convoy.worker.regression import regression
from convoy.worker.replies import Reply
from convoy.worker.statistics import statistics
from convoy.worker.survival import cox, survival
from convoy.worker.tasks import Task

NAME: Final = "Convoy's own trainer"
KINDS: Final[Mapping[str, Callable[[Task], Reply]]] = {
    "statistics": statistics,
    "kmeans": kmeans,
    "regression": regression,
    "survival": survival,
    "cox": cox,
}


def choose(kind: str) -> Callable[[Task], Reply]:
    """Return the function that answers questions of a kind. Raises `BadInput` if there is none."""
    if kind not in KINDS:
        raise BadInput(
            f"{NAME} has no answer to {kind!r} questions",
            why=f"it answers {', '.join(KINDS)}",
            fix="name the code that answers them in job.yaml: `trainer: train.py`",
        )
    return KINDS[kind]
