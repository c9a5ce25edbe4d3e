"""The arrays of a reply, compared with what the question asks for; loaded with numpy, once there are any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.errors import BadInput
from convoy.model import arrays, frameworks, reply, schema


def like(anything: Any, sent: arrays.Model) -> Mapping[str, Any]:
    """Return the arrays of a reply that must be like those that came with its question, in their order.

    Raises `Refused` for arrays that are not like them in name, shape and dtype, or not finite, and `BadInput` for what
    is not an array.
    """
    if isinstance(anything, arrays.Model) and anything.digest == sent.digest != "":
        return sent
    update = _packed(anything)
    schema.check_shapes(arrays.shapes(update), sent.shapes)
    schema.check_values(update)
    return {name: update[name] for name in sent}


def fitting(anything: Any, slots: tuple[reply.Slot, ...], most: int) -> Mapping[str, Any]:
    """Return the arrays of a reply that must fit these slots, in their order; `most`: bytes.

    Raises `Refused` and `BadInput` as `like` does.
    """
    update = _packed(anything)
    size = sum(array.nbytes for array in update.values())
    reply.check(arrays.shapes(update), slots, size=size, most=most)
    schema.check_values(update)
    return {slot.name: update[slot.name] for slot in slots}


def kept(anything: Any, most: float) -> Mapping[str, Any]:
    """Return the arrays that stay at the site. Raises `BadInput` for more than `most` bytes of them."""
    if isinstance(anything, arrays.Model) and anything.digest:
        return anything
    state = _packed(anything)
    size = sum(array.nbytes for array in state.values())
    if size > most:
        raise BadInput(
            f"the state that this trainer keeps has {size} bytes",
            why=f"this site allows {most:.0f}",
            fix="keep less, or ask the site's owner for more: `limits: {state: …}` in its policy.yaml",
        )
    return state


def _packed(anything: Any) -> dict[str, Any]:
    return {name: arrays.packed(array) for name, array in frameworks.to_arrays(anything).items()}
