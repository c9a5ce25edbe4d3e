"""A site's part of Ditto: a model of its own, which stays there and is pulled to the common one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.errors import BadInput
from convoy.worker.proximal_term import ProximalTerm
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task

PREFIX: Final = "ditto/"  # of the personal model's arrays in what a site keeps


class Ditto:
    """One task of the workflow `ditto`: the common model, this site's personal one, and the term that pulls it.

    `model`: the arrays of the common model w, copies to write to, to be trained as under `fedavg`. `personal`: those of
    the personal model v, which is the common one before this site's first answer. Each step on v follows
    grad F(v) + lam (v - w), where w is the model as it came (Li et al., 2021, algorithm 1). An evaluation may measure
    `personal`.
    """

    def __init__(self, task: Task) -> None:
        """Take the personal model from the task's state. Raises `BadInput` for a task of another workflow."""
        if "lam" not in task.settings and task.kind == "train":
            raise BadInput("this task has no personal model", fix="set `workflow: ditto` in job.yaml")
        task.used.add("Ditto")
        self.lam = float(task.settings.get("lam", 0.0))
        kept = {name.removeprefix(PREFIX): it for name, it in task.state.items() if name.startswith(PREFIX)}
        self.model: dict[str, Any] = task.model.numpy()
        self.personal: dict[str, Any] = {name: kept.get(name, it).copy() for name, it in task.model.items()}
        self._pull = ProximalTerm(self.lam, task.model, task.private)

    def gradient(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return lam (v - w) for the personal model's arrays, in their dtypes, to be added to the gradient of v.

        Integers and booleans have none. Raises `BadInput` for an array that the task's model does not have.
        """
        return self._pull.gradient(arrays)

    def penalty(self, module: Any) -> Any:
        """Return lam/2 ||v - w||^2 over the trainable parameters of a torch module with v, to be added to its loss.

        With a lam of 0 it is the number 0. Raises `BadInput` for a parameter that the task's model does not have.
        """
        return self._pull.penalty(module)

    def reply(
        self,
        arrays: Mapping[str, Any],
        personal: Mapping[str, Any],
        *,
        weight: float = 1.0,
        metrics: Mapping[str, float] | None = None,
    ) -> Reply:
        """Return the reply: the common model as it was trained here; the personal model stays as the task's state."""
        own = {f"{PREFIX}{name}": array for name, array in personal.items()}
        return Reply(arrays, weight=weight, metrics=metrics or {}, state=own)
