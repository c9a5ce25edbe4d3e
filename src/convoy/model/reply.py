"""What the arrays of an answer must be where they are not shaped like the model: names, dtypes, shapes, bytes."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from convoy.errors import BadInput, Refused, some
from convoy.model import schema
from convoy.model.blob import DTYPES, Layout

MAX_SLOTS: Final = 4096  # arrays that a question may ask for by name
MAX_DIMENSIONS: Final = 16  # of one of them
MAX_LENGTH: Final = (1 << 48) - 1  # of one dimension
MAX_NAME: Final = 255  # characters of a name
LIMIT: Final = 1 << 20  # bytes of an answer whose shapes may vary, unless the question says otherwise

Shape = tuple["int | None", ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """One array of an answer: its name, its dtype as a blob names it (`F32`), its shape; None: any length."""

    name: str
    dtype: str
    shape: Shape

    def fits(self, dtype: str, shape: tuple[int, ...]) -> bool:
        """Whether an array of this dtype and shape is what was asked for."""
        if dtype != self.dtype or len(shape) != len(self.shape):
            return False
        return all(wanted in (None, length) for wanted, length in zip(self.shape, shape, strict=True))

    def __str__(self) -> str:
        """Return the array in words, such as `int64 [any, 32]`."""
        lengths = ", ".join("any" if length is None else str(length) for length in self.shape)
        return f"{DTYPES.get(self.dtype, self.dtype)} [{lengths}]"


def varies(slots: tuple[Slot, ...]) -> bool:
    """Whether the size of such an answer is not known before it comes."""
    return any(length is None for slot in slots for length in slot.shape)


def slots_of(reply: Mapping[str, Any]) -> tuple[Slot, ...]:
    """Return what a workflow asks for, from name -> (dtype, shape) such as `("f4", (None, 32))`. Raises `BadInput`."""
    if not isinstance(reply, Mapping):
        raise BadInput(
            f"reply is {reply!r}",
            why="wanted a mapping of names to (dtype, shape)",
            fix='such as reply={"counts": ("i8", (None, 32))}',
        )
    if len(reply) > MAX_SLOTS:
        raise BadInput(f"reply asks for {len(reply)} arrays", why=f"{MAX_SLOTS} are the limit")
    return tuple(_slot(name, wanted) for name, wanted in reply.items())


def _slot(name: Any, wanted: Any) -> Slot:
    from convoy.model.arrays import kind_of  # numpy comes with the first array, not before

    try:
        kind, shape = wanted
        lengths = None
        if not isinstance(wanted, str):
            lengths = tuple(None if length is None else operator.index(length) for length in shape)
    except (TypeError, ValueError):
        lengths = None
    if lengths is None:
        raise BadInput(
            f"reply asks for {name!r} as {wanted!r}",
            why="wanted a dtype and a shape",
            fix='such as ("f4", (None, 32)), where None is any length',
        )
    slot = Slot(name, kind_of(kind), lengths)
    check_slot(slot)
    return slot


def check_slot(slot: Slot) -> None:
    """Raise `BadInput` for an array that no answer can have."""
    if not isinstance(slot.name, str) or not 0 < len(slot.name) <= MAX_NAME or slot.name == "__metadata__":
        raise BadInput(f"reply asks for an array named {slot.name!r}", why=f"wanted text of 1 to {MAX_NAME} characters")
    if len(slot.shape) > MAX_DIMENSIONS:
        raise BadInput(f"reply asks for {slot.name!r} with {len(slot.shape)} dimensions", why="16 are the limit")
    if any(length is not None and not 0 <= length <= MAX_LENGTH for length in slot.shape):
        raise BadInput(
            f"reply asks for {slot.name!r} with the shape {list(slot.shape)}", why="a length is not possible"
        )


def check(
    came: Mapping[str, tuple[str, tuple[int, ...]]], slots: tuple[Slot, ...], *, size: int = 0, most: float = math.inf
) -> None:
    """Compare name -> (dtype, shape) with what was asked for, and its bytes with a limit.

    Raises `Refused` with the array's name, what it is and what it should be.
    """
    names = [slot.name for slot in slots]
    if came.keys() != set(names):
        raise Refused(
            f"the answer has the arrays {_listed(list(came))}",
            why=f"the question asks for {_listed(names)}",
            fix="answer with these arrays and no others",
        )
    for slot in slots:
        dtype, shape = came[slot.name]
        if not slot.fits(dtype, shape):
            raise Refused(
                f"array {slot.name!r} of the answer is {Slot(slot.name, dtype, shape)}, the question asks for {slot}",
                fix=f"convert it: .astype({DTYPES.get(slot.dtype, slot.dtype)!r})"
                if dtype != slot.dtype
                else "answer with an array of this shape",
            )
    if varies(slots) and size > most:
        raise Refused(f"the answer has {size} bytes of arrays", why=f"{most:.0f} are the limit")


def check_layout(layout: Layout, base: Layout, slots: tuple[Slot, ...] | None, most: float) -> None:
    """Compare a blob with what was asked for, order included: slots, or without them its base. Raises `Refused`."""
    if slots is None:
        schema.check_layout(layout, schema.shapes(base))
        return
    came = schema.shapes(layout)
    size = sum(tensor.end - tensor.start for tensor in layout.tensors)
    check(came, slots, size=size, most=most)
    if list(came) != [slot.name for slot in slots]:
        raise Refused("the arrays of the answer are in another order than the question's")


def _listed(names: list[str]) -> str:
    return some([*map(repr, names)], 5) or "none"
