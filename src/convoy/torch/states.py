"""The state of optimisers and of anything else with a state dict, as arrays that stay at a site between tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from convoy.errors import BadInput
from convoy.model import frameworks

TEXT: Final = "text"  # the name of the array that holds what is no tensor, as JSON


def keep(**things: Any) -> dict[str, Any]:
    """Return the states of things, by the names that they are given here, for `Reply(state=…)`.

    A thing has `state_dict()` and `load_state_dict()`: an optimiser, a scheduler, a gradient scaler, a module that the
    site keeps for itself. Its tensors keep their dtypes; numbers, texts, lists, tuples and mappings around them travel
    as JSON in an array of bytes. Raises `BadInput`, with its place, for a value of another kind.
    """
    found: dict[str, Any] = {}
    for thing, it in things.items():
        tensors: list[Any] = []
        text = json.dumps(_plain(it.state_dict(), tensors, thing))
        found[f"{thing}/{TEXT}"] = np.frombuffer(text.encode(), np.uint8)
        found |= {f"{thing}/{number}": tensor for number, tensor in enumerate(tensors)}
    return found


def restore(state: Mapping[str, Any], **things: Any) -> bool:
    """Load a task's state, which `keep` made, into things of the same names; return whether there was one.

    Without a state, in a site's first task, they stay as they are. Raises `BadInput` for a thing that was not kept.
    """
    if not state:
        return False
    for thing, it in things.items():
        text = state.get(f"{thing}/{TEXT}")
        if text is None:
            known = ", ".join(name.removesuffix(f"/{TEXT}") for name in state if name.endswith(f"/{TEXT}"))
            raise BadInput(
                f"this task's state has no {thing!r}",
                why=f"it has {known or 'nothing that convoy.torch.keep made'}",
                fix="give restore() the names that keep() was given",
            )
        it.load_state_dict(_thing(json.loads(text.tobytes()), state, thing))
    return True


def _plain(value: Any, tensors: list[Any], place: str) -> Any:
    """Return a value as JSON in which [kind, content] stands for what JSON does not have; gather its tensors."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):  # its keys may be numbers
        return ["mapping", [[_key(key, place), _plain(it, tensors, f"{place}.{key}")] for key, it in value.items()]]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_plain(it, tensors, f"{place}.{number}") for number, it in enumerate(value)]]
    if hasattr(value, "detach") or isinstance(value, np.ndarray | np.generic):
        tensors.append(value)
        return ["tensor", len(tensors) - 1]
    raise BadInput(
        f"{place} is a {type(value).__name__} and cannot be kept",
        why="a state is made of tensors, numbers, texts, lists and mappings",
        fix="leave it out, or keep what it is made of",
    )


def _key(key: Any, place: str) -> Any:
    if isinstance(key, int | str):
        return key
    raise BadInput(f"{place} has the key {key!r}, a {type(key).__name__}", fix="use texts or whole numbers as keys")


def _thing(plain: Any, state: Mapping[str, Any], thing: str) -> Any:
    if not isinstance(plain, list):
        return plain
    kind, content = plain
    if kind == "mapping":
        return {key: _thing(it, state, thing) for key, it in content}
    if kind == "tensor":
        return frameworks.to_torch({"": state[f"{thing}/{content}"]})[""]
    items = [_thing(it, state, thing) for it in content]
    return items if kind == "list" else tuple(items)
