"""What a trainer replies, checked against the question: the same rules in a trainer's process and in a test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from convoy.control import json_values, numbers
from convoy.errors import BadInput
from convoy.worker import private

if TYPE_CHECKING:
    from convoy.control.records import Question
    from convoy.model.arrays import Model


class Asked(Protocol):
    """What a reply must fit: the question, its arrays, the bytes of state that may stay at the site."""

    asked: Question
    most_state: float
    used: set[str]

    @property
    def sent(self) -> Model:
        """The arrays that came with the question."""
        ...

    @property
    def kept_here(self) -> private.Placed:
        """The tensors of the model that stay at this site."""
        ...

    @property
    def state(self) -> Mapping[str, Any]:
        """What the trainer kept before."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """A trainer's answer: arrays (or none), its weight in the mean, and its metrics.

    `value`: plain JSON of at most 64 KiB. `state`: arrays that stay at this site and are the `state` of its next task,
    once this answer counts in a round; None keeps the previous state.
    """

    arrays: Any = None
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    value: Any = None
    state: Any = None


class Checked(NamedTuple):
    """A reply in which every part can be sent: arrays in the order of the question, the value as JSON."""

    arrays: Mapping[str, Any] | None
    weight: float
    metrics: dict[str, float]
    value: str
    state: Mapping[str, Any] | None


def checked(reply: Reply, task: Asked, log: Callable[[str], None]) -> Checked:
    """Return a reply to a task as it may be sent.

    Raises `Refused` for arrays that are not what the question asks for in name, shape and dtype, or not finite, and
    `BadInput` for what is not an array, a number or JSON, and for arrays in the answer to an evaluation.
    """
    question = task.asked
    weight = numbers.number("the weight", reply.weight)
    if not (math.isfinite(weight) and weight >= 0):
        raise BadInput(f"the weight is {weight}", fix="give a number from 0 up, such as how many examples there were")
    none = type(reply.metrics) is dict and not reply.metrics
    metrics = {} if none else _metrics(reply.metrics, f"this {question.kind!r} task", log)
    if reply.arrays is None and question.wants_arrays:
        raise BadInput(
            f"the reply to a {question.kind!r} task has no arrays",
            why=f"the question asks for {', '.join(map(repr, _wanted(task)))}",
            fix="pass them to reply()",
        )
    if reply.arrays is not None and question.kind == "evaluate" and not question.wants_arrays:
        raise BadInput(
            'the reply to an "evaluate" task has arrays',
            why="the question wants the metrics of the model that came; a model that was trained is not used",
            fix="check `task.kind`, and answer with metrics alone: task.reply(metrics={…}, weight=…)",
        )
    given, state = reply.arrays, reply.state
    if given is not None and question.helper and question.helper not in task.used:
        raise BadInput(
            f"this trainer does not use convoy.{question.helper}",
            why="the job's workflow needs its part at each site; without it, the site would train as under `fedavg`",
            fix=f"call `convoy.{question.helper}(task)` for each {question.kind!r} task, and use what it has",
        )
    if given is not None and question.partial:
        given, state = private.parted(given, task.kept_here, task.state if state is None else state)
    arrays = None if given is None else _arrays(given, task)
    text = (
        "" if reply.value is None else json_values.write_json(reply.value, f"the value of this {question.kind!r} task")
    )
    return Checked(arrays, weight, metrics, text, None if state is None else _state(state, task.most_state))


def _metrics(given: Any, of: str, log: Callable[[str], None]) -> dict[str, float]:
    """Return the metrics of a reply that are finite numbers; the others are said in the log."""
    from convoy.model.update import finite

    return finite(numbers.metrics(given, of), of, log)


def _wanted(task: Asked) -> list[str]:
    slots = task.asked.reply
    return (list(task.sent) if slots is None else [slot.name for slot in slots])[:5]


def _arrays(anything: Any, task: Asked) -> Mapping[str, Any]:
    from convoy.worker import reply_arrays  # with numpy, which a trainer without arrays does not load

    slots = task.asked.reply
    if slots is None:
        return reply_arrays.like(anything, task.sent)
    return reply_arrays.fitting(anything, slots, task.asked.reply_bytes)


def _state(anything: Any, most: float) -> Mapping[str, Any]:
    from convoy.worker.reply_arrays import kept

    return kept(anything, most)
