"""What Convoy's own trainer answers, for jobs that bring no code to the sites: a function for each kind of question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from convoy.worker.replies import Reply
from convoy.worker.statistics import statistics
from convoy.worker.tasks import Task

KINDS: Final[Mapping[str, Callable[[Task], Reply]]] = {"statistics": statistics}
