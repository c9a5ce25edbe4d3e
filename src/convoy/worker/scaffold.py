"""A site's part of SCAFFOLD: the model to train, the correction of each gradient, and the reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.errors import BadInput
from convoy.model.variates import join, split
from convoy.worker.proximal_term import named
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task


class Scaffold:
    """One task of the workflow `scaffold`: its model and the correction of gradients.

    `model`: the arrays to train, copies to write to. `correction`: for each float array c - c_i, which is to be added
    to its gradient before each step (Karimireddy et al., 2020, algorithm 1, line 10); 0 for tensors that stay here.
    """

    def __init__(self, task: Task) -> None:
        """Take the server's variate from the task, and this site's own from its state."""
        self._sent, self._variate = split(task.model)
        if not self._variate and self._sent:
            raise BadInput("this task has no control variate", fix="set `workflow: scaffold` in job.yaml")
        task.used.add("Scaffold")
        self._own = {name: task.state.get(name, array * 0) for name, array in self._variate.items()}
        self.model: dict[str, Any] = {name: array.copy() for name, array in self._sent.items()}
        self.correction: dict[str, Any] = {
            name: self._variate[name] - self._own[name] if name in self._variate else array * 0
            for name, array in self._sent.items()
            if name in self._variate or (name in task.private and array.dtype.kind not in "iub")
        }

    def reply(
        self,
        arrays: Mapping[str, Any],
        *,
        steps: int,
        lr: float,
        weight: float = 1.0,
        metrics: Mapping[str, float] | None = None,
    ) -> Reply:
        """Return the reply after `steps` steps of the learning rate `lr` that led to these arrays.

        The site's new variate is c_i - c + (x - y) / (steps lr) (option II); it stays here as the task's state, and its
        change goes to the server. The arrays are numpy's or torch's. Raises `BadInput` for a number of steps or a rate
        that is not above 0, and for an array that is missing.
        """
        from convoy.model import frameworks

        if not (steps > 0 and lr > 0):
            raise BadInput(f"{steps} steps of {lr} were taken", fix="give numbers above 0")
        ended = frameworks.to_arrays(arrays)
        own = {
            name: (self._own[name] - c + (self._sent[name] - named(ended, name)) / (steps * lr)).astype(c.dtype)
            for name, c in self._variate.items()
        }
        moved = {name: c + (own[name] - self._own[name]) for name, c in self._variate.items()}
        return Reply(join(ended, moved), weight=weight, metrics=metrics or {}, state=own)
