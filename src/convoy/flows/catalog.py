"""The workflows that Convoy brings along, by the name that a job.yaml gives them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from convoy.errors import BadInput
from convoy.flows.fedavg import fedavg

BUILT_IN: Final[dict[str, Callable[..., Awaitable[None]]]] = {"fedavg": fedavg}


def built_in(name: str) -> Callable[..., Awaitable[None]]:
    """Return the workflow of that name. Raises `BadInput` if there is none."""
    found = BUILT_IN.get(name)
    if found is None:
        raise BadInput(
            f"there is no workflow {name!r}",
            why=f"built in: {', '.join(BUILT_IN)}",
            fix="name one of them, or a function of your own such as `flow.py:run`",
        )
    return found
