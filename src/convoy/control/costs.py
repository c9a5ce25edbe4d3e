"""What an answer took: seconds by phase, processor, memory, GPU, energy and bytes; costs of a site add up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

MOST: Final = 1e15  # of any one number: a petabyte, or more seconds or joules than any job takes


class Cost(NamedTuple):
    """What one answer took, or all answers of a site to a job. 0: nothing, or not measured there.

    A tuple, since each answer makes three of them: a dataclass with so many fields takes six times as long to make.
    """

    pull_s: float = 0.0  # seconds in which the site fetched the model
    train_s: float = 0.0  # seconds in which its trainer had the task
    release_s: float = 0.0  # seconds of checks and filters at the site
    cpu_s: float = 0.0  # processor seconds of the trainer, and of processes that have ended before it answered
    memory: int = 0  # bytes: the most that the trainer's process has had
    gpu_s: float = 0.0  # seconds of full use of one GPU
    gpu_memory: int = 0  # bytes in use on the site's GPUs, by whomever, when the trainer answered
    energy_j: float = 0.0  # joules of the site's processors and GPUs meanwhile, by whomever they were used
    took_s: float = 0.0  # seconds from the question to the answer, at the server
    down: int = 0  # bytes of models and bundle that the server sent
    up: int = 0  # bytes of updates that the server received
    answers: int = 0

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]  # of a tuple it would be longer
        """Return both together: peaks are not added up."""
        return Cost(
            self.pull_s + other.pull_s,
            self.train_s + other.train_s,
            self.release_s + other.release_s,
            self.cpu_s + other.cpu_s,
            max(self.memory, other.memory),
            self.gpu_s + other.gpu_s,
            max(self.gpu_memory, other.gpu_memory),
            self.energy_j + other.energy_j,
            self.took_s + other.took_s,
            self.down + other.down,
            self.up + other.up,
            self.answers + other.answers,
        )

    @property
    def usable(self) -> bool:
        """Whether each number is one that a site may say."""
        return all(math.isfinite(value) and 0 <= value <= MOST for value in self)

    def rounded(self) -> Cost:
        """Return it to two significant digits, which is what leaves a site: exact times tell of its data."""
        return Cost(*map(_two_digits, self))

    def plain(self) -> dict[str, float]:
        """Return it as JSON values, without what is 0."""
        return {name: value for name, value in self._asdict().items() if value}

    @classmethod
    def read(cls, kept: Mapping[str, Any] | None) -> Cost:
        """Return what `plain` wrote; None: nothing was measured. Raises `TypeError` for anything else."""
        return cls(**kept) if kept else NOTHING


NOTHING: Final = Cost()


def _two_digits(value: Any) -> Any:
    rounded = float(f"{value:.2g}")
    return int(rounded) if isinstance(value, int) else rounded
