"""A callback for Lightning: a task's model goes into the module before a fit, what it has trained is the reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.errors import BadInput, not_installed
from convoy.torch import modules, states
from convoy.worker.tasks import Task

try:
    from lightning.pytorch.callbacks import Callback
except ImportError as problem:
    raise not_installed(problem, "lightning", extra="lightning") from problem

RECEIVED: Final = (
    "received_"  # before the names of metrics that belong to the model that came, not to the one that leaves
)


class Site(Callback):  # type: ignore[misc]  # Any to the type checker
    """The callback of one task: make a `Trainer` with it for each task.

    `trainer.fit` trains the task's model and replies with what `convoy.torch.arrays` gives of the module, the metrics
    that the module logged, and `steps`, the number of optimiser steps. A `trainer.validate` before it measures the
    model that came; its metrics are in the reply to a "train" task with `received_` before their names, and are the
    reply to an "evaluate" task.

    `weight`: of the reply; without it the number of rows of the data loader's data set. `keep_optimizers`: the states
    of optimisers and schedulers stay at the site and are there in its next task.
    """

    def __init__(self, task: Task, *, weight: float | None = None, keep_optimizers: bool = False) -> None:
        """Take the task to reply to."""
        super().__init__()
        self._task = task
        self._weight = weight
        self._keeps = keep_optimizers
        self._received: dict[str, float] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Put the task's model into the module. Raises `BadInput` where it does not fit."""
        modules.load(pl_module, self._task.model)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - Lightning's signature
        """Let the optimisers go on where they were."""
        if self._keeps:
            states.restore(self._task.state, **_optimisers(trainer))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - Lightning's signature
        """Keep what a validation apart from a fit has measured; it is the reply to an "evaluate" task."""
        if trainer.state.fn != "validate":
            return
        self._received = _numbers(trainer.callback_metrics)
        if self._task.kind == "evaluate":
            self._task.reply(metrics=self._received, weight=self._weighed(trainer.val_dataloaders))

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Reply. Raises `BadInput` if the data has no length and no weight was given."""
        received = {f"{RECEIVED}{name}": value for name, value in self._received.items()}
        self._task.reply(
            modules.arrays(pl_module),
            weight=self._weighed(trainer.train_dataloader),
            metrics=received | _numbers(trainer.callback_metrics) | {"steps": float(trainer.global_step)},
            state=states.keep(**_optimisers(trainer)) if self._keeps else None,
        )

    def _weighed(self, loader: Any) -> float:
        if self._weight is not None:
            return self._weight
        try:
            return float(len(loader.dataset))
        except (AttributeError, TypeError) as problem:
            raise BadInput(
                "how many rows this site has is not known",
                why=f"{type(loader).__name__} has no data set with a length",
                fix="give the callback a number: Site(task, weight=…)",
            ) from problem


def _optimisers(trainer: Any) -> dict[str, Any]:
    found = {f"optimizer-{number}": it for number, it in enumerate(trainer.optimizers)}
    return found | {f"scheduler-{number}": it.scheduler for number, it in enumerate(trainer.lr_scheduler_configs)}


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
