"""A site's part of FedDyn: the regulariser that changes with what the site has learned before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from convoy.errors import BadInput
from convoy.model.arrays import Model
from convoy.worker.proximal_term import ProximalTerm, named, trainable
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task


class FedDyn:
    """One task of the workflow `feddyn`: what is added to the loss L, and the reply.

    The site minimises L(w) - <g, w> + alpha/2 ||w - w_t||^2, in which w_t is the task's model and g is the gradient of
    L where this site's last training ended, 0 at first (Acar et al., 2021, algorithm 1). `model`: the arrays of w_t,
    copies to write to. g is the task's state, in the dtypes of the model.
    """

    def __init__(self, task: Task) -> None:
        """Take `alpha` from the task's settings, and g from its state. Raises `BadInput` where there is no alpha."""
        if "alpha" not in task.settings:
            raise BadInput("this task has no dynamic regulariser", fix="set `workflow: feddyn` in job.yaml")
        task.used.add("FedDyn")
        self.alpha = float(task.settings["alpha"])
        self.model: dict[str, Any] = task.model.numpy()
        self._start = {
            name: it for name, it in task.model.items() if it.dtype.kind not in "iub" and name not in task.private
        }
        self._slope = {name: task.state.get(name, it * 0) for name, it in self._start.items()}
        self._pull = ProximalTerm(self.alpha, task.model, task.private)

    def gradient(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return alpha (w - w_t) - g for numpy arrays by name, in their dtypes, to be added to the gradient of L.

        Integers and booleans have none. Raises `BadInput` for an array that the task's model does not have.
        """
        pulled = self._pull.gradient(arrays)
        return {
            name: (it - self._slope[name]).astype(it.dtype) if name in self._slope else it
            for name, it in pulled.items()
        }

    def penalty(self, module: Any) -> Any:
        """Return alpha/2 ||w - w_t||^2 - <g, w> over the trainable parameters of a torch module, to be added to L.

        Raises `BadInput` for a parameter that the task's model does not have.
        """
        pairs = [(it, self._tensors[name]) for name, it in trainable(module) if name in self._tensors]
        return self._pull.penalty(module) - sum((it * slope.to(it)).sum() for it, slope in pairs)

    def reply(
        self, arrays: Mapping[str, Any], *, weight: float = 1.0, metrics: Mapping[str, float] | None = None
    ) -> Reply:
        """Return the reply with these arrays w; the new g = g - alpha (w - w_t) stays here as the task's state.

        The arrays are numpy's or torch's. Raises `BadInput` for one that is missing.
        """
        from convoy.model import frameworks

        ended = frameworks.to_arrays(arrays)
        slopes = {
            name: (self._slope[name] - self.alpha * (named(ended, name) - start)).astype(start.dtype)
            for name, start in self._start.items()
        }
        return Reply(arrays, weight=weight, metrics=metrics or {}, state=slopes)

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        return Model(self._slope).torch()
