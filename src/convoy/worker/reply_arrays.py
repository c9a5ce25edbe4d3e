"""The arrays of a reply, compared with what the question asks for; loaded with numpy, once there are any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convoy.errors import BadInput
from convoy.model import arrays, frameworks, reply, schema

if TYPE_CHECKING:
    from convoy.control.records import Question


def fitting(anything: Any, question: Question, sent: arrays.Model) -> Mapping[str, Any]:
    """Return the arrays of a reply in the order of its question, with which the arrays `sent` came.

    Raises `Refused` for arrays that are not what the question asks for in name, shape and dtype, or not finite, and
    `BadInput` for what is not an array.
    """
    slots = question.reply
    if slots is None and isinstance(anything, arrays.Model) and anything.digest == sent.digest != "":
        return sent
    update = _packed(anything)
    if slots is None:
        schema.check_shapes(arrays.shapes(update), sent.shapes)
        order = list(sent)
    else:
        size = sum(array.nbytes for array in update.values())
        reply.check(arrays.shapes(update), slots, size=size, most=question.reply_bytes)
        order = [slot.name for slot in slots]
    schema.check_values(update)
    return {name: update[name] for name in order}


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
