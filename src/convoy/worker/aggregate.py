"""A site's part of swarm learning: it folds the updates of a round as the server would."""

from __future__ import annotations

from functools import partial

from convoy.errors import BadInput
from convoy.worker.replies import Reply
from convoy.worker.tasks import Task, log


def aggregate(task: Task) -> Reply:
    """Return the reply to an "aggregate" task of the workflow `swarm`: the fold of the updates that came with it.

    Updates are mapped and read slice by slice. Raises `BadInput` under another workflow, and what the fold raises.
    """
    from convoy.model import gathered
    from convoy.model.robust import fold_of
    from convoy.model.update import Update

    if "fold" not in task.settings or "sites" not in task.settings:
        raise BadInput(f"this {task.kind!r} task has no updates to fold", fix="set `workflow: swarm` in job.yaml")
    options = dict(task.settings["fold"])
    like, updates = gathered.split(task.model)
    mean, left_out = fold_of(options.pop("fold"), like, **options), dict[str, str]()
    for site, weight, model in zip(task.settings["sites"], task.settings["weights"], updates, strict=True):
        note = partial(left_out.__setitem__, site)
        mean.add(Update(site, model, weight, leave_out=note, remark=partial(_say, site)))
    return Reply(mean.result(), value={"left_out": left_out})


def _say(site: str, text: str) -> None:
    log(f"{site}: {text}")
