"""A site's part of DiLoCo with fragments: the model to go on with, and the reply of one fragment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from convoy.errors import BadInput
from convoy.model import fragments, frameworks
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task

PREFIX: Final = "diloco/"  # of the names of what this keeps in the task's state beside the trainer's own
LOCAL: Final = f"{PREFIX}local/"
ROUND: Final = f"{PREFIX}round"  # the round of this site's last answer that counts


class Streaming:
    """One task of the workflow `diloco` with `fragments`.

    `model`: the arrays to train, copies to write to: of each fragment that was synchronised since this site's last
    answer the federation's, of the others this site's own. `names`: the tensors that this round synchronises. `state`:
    the arrays that the trainer kept with `reply`. Douillard et al.: Streaming DiLoCo, 2025, algorithm 1.
    """

    def __init__(self, task: Task) -> None:
        """Join the model from what was sent and what stayed here. Raises `BadInput` under another workflow."""
        if "fragments" not in task.settings:
            raise BadInput("this task has no fragments", fix="set `workflow: diloco` and `fragments` in job.yaml")
        task.used.add("Streaming")
        runs = fragments.divide(task.sent, task.settings["fragments"])
        self._round, self._sent = task.round, tuple(task.sent)
        self.names = tuple(runs[fragments.turn(task.round, len(runs))])
        self.state: dict[str, Any] = {name: it for name, it in task.state.items() if not name.startswith(PREFIX)}
        own = set[str]()
        if ROUND in task.state:
            since = int(task.state[ROUND])
            for place, run in enumerate(runs):
                if fragments.last_turn(place, task.round, len(runs)) < since:
                    own.update(run)
        self.model: dict[str, Any] = {
            name: (task.state[LOCAL + name] if name in own else array).copy() for name, array in task.model.items()
        }

    def reply(
        self,
        arrays: Any,
        *,
        weight: float = 1.0,
        metrics: Mapping[str, float] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Return the reply with this round's fragment of the arrays; the others stay here, with the trainer's `state`.

        Raises `BadInput` if an array of the model is missing, or for a state that has a name of this class.
        """
        found, kept = frameworks.to_arrays(arrays), self.state if state is None else frameworks.to_arrays(state)
        for name in self.model:
            if name not in found:
                raise BadInput(f"the reply lacks the array {name!r}", fix="give all arrays of `Streaming.model`")
        for name in kept:
            if name.startswith(PREFIX):
                raise BadInput(f"the state has an array {name!r}", fix=f"use a name that does not begin with {PREFIX}")
        local = {LOCAL + name: found[name] for name in self._sent if name not in self.names}
        left = {name: array for name, array in found.items() if name in self.names or name not in self._sent}
        return Reply(
            left, weight=weight, metrics=metrics or {}, state={**kept, **local, ROUND: np.array(self._round, np.int64)}
        )
