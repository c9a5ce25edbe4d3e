"""A site's part of FedProx: the term that holds a site near the model that it began from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from convoy.errors import BadInput
from convoy.worker.tasks import Task


class Proximal:
    """One task of the workflow `fedprox`: the term mu/2 ||w - w_t||^2, in which w_t is the task's model.

    `mu` is that of the task's settings. Li et al.: Federated Optimization in Heterogeneous Networks, 2020, equation 2.
    """

    def __init__(self, task: Task) -> None:
        """Take `mu` from the task's settings. Raises `BadInput` where there is none."""
        if "mu" not in task.settings:
            raise BadInput("this task has no proximal term", fix="set `workflow: fedprox` in job.yaml")
        self.mu = float(task.settings["mu"])
        self._start = task.model

    def gradient(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return mu (w - w_t) for numpy arrays by name, in their dtypes, to be added to the gradient before each step.

        Integers and booleans have none. Raises `BadInput` for an array that the task's model does not have.
        """
        return {
            name: (self.mu * (array - self._of(self._start, name))).astype(array.dtype)
            for name, array in arrays.items()
            if array.dtype.kind not in "iub"
        }

    def penalty(self, module: Any) -> Any:
        """Return mu/2 ||w - w_t||^2 over the trainable parameters of a torch module, to be added to its loss.

        With a mu of 0 it is the number 0. Raises `BadInput` for a parameter that the task's model does not have.
        """
        if not self.mu:
            return 0.0
        pairs = [(it, self._of(self._tensors, name)) for name, it in module.named_parameters() if it.requires_grad]
        return self.mu / 2 * sum(((it - start.to(it)) ** 2).sum() for it, start in pairs)

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        return self._start.torch()

    def _of(self, known: Mapping[str, Any], name: str) -> Any:
        if name not in known:
            raise BadInput(
                f"the task's model has no array {name!r}",
                why=f"it has {', '.join(list(known)[:5]) or 'none at all'}",
                fix="use the names of the model that the task brought",
            )
        return known[name]
