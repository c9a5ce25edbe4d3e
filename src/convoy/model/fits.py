"""Whether a model fits what a framework holds: the names, shapes and dtypes of its tensors, compared before a copy."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from convoy.errors import BadInput, some
from convoy.model import variates

SHOWN: Final = 5  # names in an error; a network has hundreds
VARIATES: Final = (  # what `scaffold` sends beside the model
    "the task of `workflow: scaffold` also has a control variate: make mine = convoy.Scaffold(task), load mine.model"
)


def check(
    have: Mapping[str, tuple[str, tuple[int, ...]]],
    model: Mapping[str, Any],
    *,
    of: str,
    fix: str,
    other: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Compare the arrays of a model with name -> (numpy's name of the dtype, shape) of what they are to go into.

    `of`: what that is, such as "this module". `other`: why a name that it knows is not among them. Raises `BadInput`
    with the missing and the unexpected names, or with the first tensor that differs.
    """
    missing = [repr(name) for name in have if name not in model]
    unexpected = [f"{name!r} ({other[name]})" if name in other else repr(name) for name in model if name not in have]
    if missing or unexpected:
        parts = (("missing", missing), ("unexpected", unexpected))
        raise BadInput(
            f"the task's model does not fit {of}",
            why="; ".join(f"{word}: {some(names, SHOWN)}" for word, names in parts if names),
            fix=VARIATES if any(name.startswith(variates.PREFIX) for name in model) else fix,
        )
    for name, (dtype, shape) in have.items():
        came = model[name]
        if (came.dtype.name, came.shape) != (dtype, shape):
            raise BadInput(
                f"tensor {name!r} of the task's model is {came.dtype.name} {list(came.shape)}, "
                f"that of {of} is {dtype} {list(shape)}",
                fix=fix,
            )
