"""NVIDIA FLARE's client functions, so that a script needs only a different import: `import convoy as flare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from convoy.control.numbers import number
from convoy.errors import BadInput
from convoy.worker.tasks import log, session

if TYPE_CHECKING:
    from convoy.model.arrays import Model

STEPS: Final = "NUM_STEPS_CURRENT_ROUND"
MOST_LOOKS: Final = 100  # at a task that nobody receives: a loop that never does would go on forever


class ParamsType(StrEnum):
    """Whether an update is the new model or the difference from the old one."""

    FULL = "FULL"
    DIFF = "DIFF"


@dataclass
class FLModel:
    """A model or an update, as in NVIDIA FLARE's scripts; the weight is in `meta`, as `NUM_STEPS_CURRENT_ROUND`."""

    params_type: ParamsType | str | None = None
    params: Any = None
    optimizer_params: Any = None
    metrics: Mapping[str, float] | None = None
    start_round: int | None = 0
    current_round: int | None = None
    total_rounds: int | None = None
    meta: dict[str, Any] | None = field(default_factory=dict)
    state: Any = None  # arrays that this site keeps for its next task; not in NVIDIA FLARE


def init() -> None:
    """Tell the node that the script has started."""
    session().ready()


def is_running() -> bool:
    """Wait for the next task and return True; False when the job has ended.

    A task that the script has received and not answered stays open until it receives again, or looks 100 times without
    receiving it: then that task fails, and the next one is waited for.
    """
    here = session()
    task = here.open
    if task is None:
        return here.next() is not None
    task.looks += 1
    return task.looks < MOST_LOOKS or task.received or here.next() is not None


def receive() -> FLModel | None:
    """Return the task's model, waiting for one if there is none; None when the job has ended.

    Its params are torch tensors where the script has imported torch, else numpy arrays; either may be written to.
    """
    here = session()
    task = here.open
    if task is None or (task.received and task.looks > 0):  # a loop came round to this task again
        task = here.next()
    if task is None:
        return None
    task.received, task.looks = True, 0
    torch = here.has_torch
    params, state = _writable(task.model, torch=torch), _writable(task.state, torch=torch)
    return FLModel(
        params_type=ParamsType.FULL,
        params=params,
        current_round=task.round - 1,  # rounds begin at 0 in NVIDIA FLARE
        total_rounds=task.rounds,
        meta={"job_id": task.job, "site_name": task.site, "seed": task.seed, **task.settings},
        state=state,
    )


def _writable(model: Model, *, torch: bool) -> dict[str, Any]:
    return model.torch() if torch else model.numpy()


def send(model: FLModel) -> None:
    """Answer the task that `receive` returned.

    An answer to an "evaluate" task has no arrays: those of the model are not sent, and the job's log says so.
    Raises `BadInput` if there is none, and for what is no `FLModel`, `ParamsType` or number; `Refused` for tensors that
    are not the model's in name, shape and dtype.
    """
    task = session().open
    if task is None:
        raise BadInput("there is no task to answer", fix="call receive() before each send()")
    if not isinstance(model, FLModel):
        fix = "wrap it: send(FLModel(params=…, metrics={…}))"
        raise BadInput(f"{type(model).__name__} is not FLModel, which send() takes", fix=fix)
    if model.params_type not in (None, *ParamsType):
        fix = "write ParamsType.DIFF for the difference from the model that came, ParamsType.FULL for a whole model"
        raise BadInput(f"the params_type is {model.params_type!r}, not FULL or DIFF", fix=fix)
    weight = number(f"meta[{STEPS!r}]", (model.meta or {}).get(STEPS, 1.0))
    arrays = _given(model.params)
    if arrays is not None and task.kind == "evaluate" and not task.asked.wants_arrays:
        log(f"the params that were sent for the evaluation of round {task.round} are not used: check is_evaluate()")
        arrays = None
    if arrays is not None and model.params_type == ParamsType.DIFF:
        from convoy.model import frameworks, schema
        from convoy.model.arrays import shapes

        apart = frameworks.to_arrays(arrays)
        schema.check_shapes(shapes(apart), shapes(task.model))
        arrays = {name: base + apart[name] for name, base in task.model.items()}
    task.reply(arrays, weight=weight, metrics=model.metrics, state=model.state)


def _given(params: Any) -> Any:
    """Return the params of a model; None for none, which an empty mapping says as well."""
    if params is None or callable(getattr(params, "state_dict", None)):
        return params
    if not isinstance(params, Mapping | list | tuple):
        said = repr(params)[:100]
        what = f"the params are {said}, of type {type(params).__name__}"
        raise BadInput(what, why="wanted a mapping of names to arrays", fix="write params={'w': array}")
    return params if len(params) else None


def is_train() -> bool:
    """Whether the current task is to train."""
    return _kind() == "train"


def is_evaluate() -> bool:
    """Whether the current task is to evaluate."""
    return _kind() == "evaluate"


def _kind() -> str:
    task = session().open
    return "" if task is None else task.kind


def system_info() -> dict[str, str]:
    """Return the names of this job and this site."""
    begin = session().begin
    return {"job_id": begin.job, "job_name": begin.name, "site_name": begin.site, "identity": begin.site}


def get_site_name() -> str:
    """Return this site's name."""
    return session().begin.site


def get_job_id() -> str:
    """Return the job's id."""
    return session().begin.job
