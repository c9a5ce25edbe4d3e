"""Which experiment trackers somebody wants: their names as people write them, and the trackers of a job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convoy.trackers.port import Tracker


@dataclass(frozen=True, slots=True)
class Chosen:
    """The trackers of jobs: a folder, a URI and a project; empty where there is none."""

    tensorboard: str = ""
    mlflow: str = ""
    wandb: str = ""

    def trackers(self) -> Iterator[Tracker]:
        """Yield a tracker of each kind, for one job. Raises `BadInput` where its package is not installed."""
        if self.tensorboard:
            from convoy.trackers.tensorboard import TensorBoard

            yield TensorBoard(Path(self.tensorboard).expanduser().absolute())
        if self.mlflow:
            from convoy.trackers.mlflow import MLflow

            yield MLflow(self.mlflow)
        if self.wandb:
            from convoy.trackers.wandb import WandB

            yield WandB(self.wandb)
