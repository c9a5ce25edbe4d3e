"""A site's part of FedNova: how much its local steps amount to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.errors import BadInput
from convoy.model.steps import METRIC, proximal, with_momentum
from convoy.worker.proximal_term import ProximalTerm
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task


class FedNova:
    """One task of the workflow `fednova`: the proximal term, where the job has one, and the reply with its steps.

    Wang et al.: Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization, 2020, section 4.
    """

    def __init__(self, task: Task) -> None:
        """Take `mu` from the task's settings. Raises `BadInput` where there is none."""
        if "mu" not in task.settings:
            raise BadInput("this task does not count steps", fix="set `workflow: fednova` in job.yaml")
        task.used.add("FedNova")
        self.mu = float(task.settings["mu"])
        self.model: dict[str, Any] = task.model.numpy()
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

    def reply(
        self,
        arrays: Any,
        *,
        steps: int,
        lr: float = 0.0,
        momentum: float = 0.0,
        weight: float = 1.0,
        metrics: Mapping[str, float] | None = None,
    ) -> Reply:
        """Return the reply after `steps` steps of gradient descent, with this momentum, that led to these arrays.

        `lr`: the learning rate; it is needed where `mu` is above 0. What the steps amount to goes to the server as the
        metric `effective_steps`. Raises `BadInput` for numbers out of their ranges, and for momentum together with a
        proximal term, for which the paper has no formula.
        """
        if steps < 1 or not 0 <= momentum < 1:
            raise BadInput(
                f"{steps} steps with a momentum of {momentum} were taken", fix="give 1 step or more, a momentum below 1"
            )
        if self.mu and momentum:
            raise BadInput("fednova has momentum and a proximal term", fix="leave out `mu`, or train without momentum")
        if self.mu and not 0 < lr * self.mu <= 1:
            raise BadInput(
                f"fednova has a proximal term of {self.mu:g}, and a learning rate of {lr:g}",
                fix=f"give the rate of each step, above 0 and up to 1 / mu = {1 / self.mu:g}: reply(…, lr=0.1)",
            )
        amount = proximal(steps, lr * self.mu) if self.mu else with_momentum(steps, momentum)
        return Reply(arrays, weight=weight, metrics={**(metrics or {}), METRIC: amount})
