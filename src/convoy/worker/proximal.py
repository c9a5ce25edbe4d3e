"""A site's part of FedProx: the term that holds a site near the model that it began from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.errors import BadInput
from convoy.worker.proximal_term import ProximalTerm
from convoy.worker.tasks import Task


class Proximal:
    """One task of the workflow `fedprox`: the term mu/2 ||w - w_t||^2, in which w_t is the task's model.

    `mu` is that of the task's settings. Tensors that stay at the site (`task.private`) are not held. Li et al.:
    Federated Optimization in Heterogeneous Networks, 2020, equation 2.
    """

    def __init__(self, task: Task) -> None:
        """Take `mu` from the task's settings. Raises `BadInput` where there is none."""
        if "mu" not in task.settings:
            raise BadInput("this task has no proximal term", fix="set `workflow: fedprox` in job.yaml")
        task.used.add("Proximal")
        self.mu = float(task.settings["mu"])
        self._pull = ProximalTerm(self.mu, task.model, task.private)

    def gradient(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return mu (w - w_t) for numpy arrays by name, in their dtypes, to be added to the gradient before each step.

        Integers and booleans have none. Raises `BadInput` for an array that the task's model does not have.
        """
        return self._pull.gradient(arrays)

    def penalty(self, module: Any) -> Any:
        """Return mu/2 ||w - w_t||^2 over the trainable parameters of a torch module, to be added to its loss.

        With a mu of 0 it is the number 0. Raises `BadInput` for a parameter that the task's model does not have.
        """
        return self._pull.penalty(module)
