"""Convoy: one model out of data that none of its owners may show."""
# ruff: noqa: F401 - the names below are for type checkers; at run time each is loaded when it is first used

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convoy.flows.fleet import Answers, Fleet, NotEnough, Round, Stream
    from convoy.model.arrays import Model
    from convoy.model.mean import Mean
    from convoy.model.update import Update
    from convoy.sim.api import simulate
    from convoy.worker.aggregate import aggregate
    from convoy.worker.ditto import Ditto
    from convoy.worker.feddyn import FedDyn
    from convoy.worker.fednova import FedNova
    from convoy.worker.points import metrics
    from convoy.worker.proximal import Proximal
    from convoy.worker.replies import Reply
    from convoy.worker.scaffold import Scaffold
    from convoy.worker.setup import Data
    from convoy.worker.streaming import Streaming
    from convoy.worker.tasks import Task, evaluate, log, tasks, train
    from convoy.worker.verbs import (
        FLModel,
        ParamsType,
        get_job_id,
        get_site_name,
        init,
        is_evaluate,
        is_running,
        is_train,
        receive,
        send,
        system_info,
    )

    config: Mapping[str, Any]
    data: Data

__version__ = "0.1.0"  # pyproject.toml says the same, and a test holds them together

_PLACES = {  # where each public name lives; loaded when it is first used
    "convoy.worker.aggregate": ("aggregate",),
    "convoy.worker.ditto": ("Ditto",),
    "convoy.worker.feddyn": ("FedDyn",),
    "convoy.worker.fednova": ("FedNova",),
    "convoy.worker.points": ("metrics",),
    "convoy.worker.proximal": ("Proximal",),
    "convoy.worker.replies": ("Reply",),
    "convoy.worker.scaffold": ("Scaffold",),
    "convoy.worker.streaming": ("Streaming",),
    "convoy.worker.tasks": ("Task", "evaluate", "log", "tasks", "train"),
    "convoy.worker.verbs": (
        "FLModel", "ParamsType", "get_job_id", "get_site_name", "init", "is_evaluate", "is_running", "is_train",
        "receive", "send", "system_info",
    ),
    "convoy.flows.fleet": ("Answers", "Fleet", "NotEnough", "Round", "Stream"),
    "convoy.model.arrays": ("Model",),
    "convoy.model.mean": ("Mean",),
    "convoy.model.update": ("Update",),
    "convoy.sim.api": ("simulate",),
}  # fmt: skip
_HOME = {name: place for place, names in _PLACES.items() for name in names}
_ELSEWHERE = {  # what NVIDIA FLARE's client has and Convoy has not, and what scripts use instead
    "get_config": "use convoy.config, the `config` of job.yaml",
    "get_task_name": "use is_train() and is_evaluate()",
    "is_submit_model": "use is_train() and is_evaluate(); the workflow `cross_site` needs no other task",
    "clear": "leave it out",
    "shutdown": "leave it out: the loop ends when the job does",
}

__all__ = [  # noqa: PLE0604 - the table above is the list
    "config",
    "data",
    *_HOME,
]


def __getattr__(name: str) -> Any:
    from importlib import import_module  # everything here waits until it is asked for

    if name in ("config", "data"):  # what this job and this site say, in a script that a node runs
        return getattr(import_module("convoy.worker.tasks"), name)()
    if name in ("partition", "trees", "sklearn", "torch", "jax", "keras"):  # packages of their own
        return import_module(f"convoy.{name}")
    if name in _ELSEWHERE:
        raise AttributeError(f"module 'convoy' has no attribute {name!r}, which NVIDIA FLARE has: {_ELSEWHERE[name]}")
    if name not in _HOME:
        raise AttributeError(f"module 'convoy' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
