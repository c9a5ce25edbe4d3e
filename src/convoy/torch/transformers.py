"""A callback for the Trainer of transformers: a task's model goes into its model, what it has trained is the reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.errors import BadInput, not_installed
from convoy.torch import modules, states
from convoy.worker.tasks import Task

try:
    from transformers import TrainerCallback
except ImportError as problem:
    raise not_installed(problem, "transformers", extra="transformers") from problem

RECEIVED: Final = "received_"  # before the names of metrics that belong to the model that came
_SPEED: Final = ("_runtime", "_per_second", "_time")  # ends of the names of what is measured with a clock
_OTHER: Final = ("epoch", "total_flos", "step")


class Site(TrainerCallback):  # type: ignore[misc]  # Any to the type checker
    """The callback of one task: make a `Trainer` with it for each task.

    `trainer.train()` trains the task's model and replies with what `convoy.torch.arrays` gives of it (of a PEFT model:
    its adapters, with their names as PEFT saves them), the last value of each metric, and `steps`, the number of
    optimiser steps. A `trainer.evaluate()` before it measures the model that came; its metrics are in the reply to a
    "train" task with `received_` before their names, and are the reply to an "evaluate" task. Times are left out.

    `weight`: of the reply, such as the number of rows. `keep_optimizer`: the state of the optimiser stays at
    the site and is there in its next task; the trainer makes a schedule of learning rates for each call of `train`.
    """

    def __init__(self, task: Task, *, weight: float, keep_optimizer: bool = False) -> None:
        """Take the task to reply to."""
        self._task = task
        self._weight = weight
        self._keeps = keep_optimizer
        self._loaded = False
        self._received: dict[str, float] = {}
        self._found: dict[str, float] = {}

    def on_init_end(self, *_: Any, model: Any, **__: Any) -> None:
        """Put the task's model into the trainer's. Raises `BadInput` where it does not fit."""
        _load(model, self._task)
        self._loaded = True

    def on_train_begin(self, *_: Any, optimizer: Any, **__: Any) -> None:
        """Let the optimiser go on where it was, with the rate at which this schedule begins."""
        self._check()
        if self._keeps:
            rates = [group["lr"] for group in optimizer.param_groups]
            states.restore(self._task.state, optimizer=optimizer)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def on_log(self, *_: Any, logs: Mapping[str, Any], **__: Any) -> None:
        """Keep the last value of each metric."""
        self._found |= _metrics(logs)

    def on_evaluate(self, _: Any, state: Any, *__: Any, metrics: Mapping[str, Any], **___: Any) -> None:
        """Reply to an "evaluate" task; before training, keep what was measured of the model that came."""
        self._check()
        if self._task.kind == "evaluate":
            self._task.reply(metrics=_metrics(metrics), weight=self._weight)
        elif state.global_step == 0:
            self._received, self._found = _metrics(metrics), {}

    def on_train_end(self, _: Any, state: Any, *__: Any, model: Any, optimizer: Any, **___: Any) -> None:
        """Reply."""
        received = {f"{RECEIVED}{name}": value for name, value in self._received.items()}
        self._task.reply(
            _arrays(model),
            weight=self._weight,
            metrics=received | self._found | {"steps": float(state.global_step)},
            state=states.keep(optimizer=optimizer) if self._keeps else None,
        )

    def _check(self) -> None:
        if not self._loaded:
            raise BadInput(
                "this trainer does not have the task's model",
                why="the callback was added after the trainer was made",
                fix="make the trainer with it: Trainer(callbacks=[Site(task, weight=…)], …)",
            )


def _load(model: Any, task: Task) -> None:
    if hasattr(model, "peft_config"):
        from convoy.torch import lora  # PEFT is there, as the model is one of its own

        lora.load(model, task.model)
    else:
        modules.load(model, task.model)


def _arrays(model: Any) -> dict[str, Any]:
    if hasattr(model, "peft_config"):
        from convoy.torch import lora

        return lora.arrays(model)
    return modules.arrays(model)


def _metrics(logs: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in logs.items()
        if isinstance(value, int | float) and not name.endswith(_SPEED) and name not in _OTHER
    }
