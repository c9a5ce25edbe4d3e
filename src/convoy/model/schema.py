"""What an update must be: the names, shapes and dtypes of its base, finite, and not too far away from it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from convoy.errors import Refused, some
from convoy.model.blob import DTYPES, Layout

if TYPE_CHECKING:  # an idle site checks no values and loads no numpy
    import numpy as np

FINITE: Final = "look for missing values in the data, a division by zero, or a learning rate that is too large"
MASK: Final = "in a mask, write numpy.finfo(dtype).min in place of -inf, or do not hand it over"
WRAPPERS: Final = {"module.": "module", "_orig_mod.": "_orig_mod"}  # of torch: DataParallel and its like; torch.compile
SLICE: Final = 1 << 16  # items: 256 KiB of float32, which fits the cache together with a buffer of the same size


Shapes = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> (dtype, shape), in order


def shapes(layout: Layout) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the tensors of a blob as name -> (dtype, shape), in their order."""
    return {tensor.name: (tensor.dtype, tensor.shape) for tensor in layout.ordered}


def check_layout(update: Layout, wanted: Shapes) -> None:
    """Compare the tensors of a blob with those wanted, order included. Raises `Refused` as `check_shapes` does."""
    came = shapes(update)
    check_shapes(came, wanted)
    if list(came) != list(wanted):
        raise Refused("the tensors of the update are in another order than the model's")


def check_shapes(update: Shapes, base: Shapes) -> None:
    """Compare name -> (dtype, shape). Raises `Refused` with the tensor's name, what it is and what it should be."""
    if update == base:
        return
    absent, extra = [name for name in base if name not in update], [name for name in update if name not in base]
    if absent or extra:
        raise _other_names(update, base, absent, extra)
    for name, (dtype, shape) in update.items():
        wanted_dtype, wanted_shape = base[name]
        if shape != wanted_shape:
            raise Refused(
                f"tensor {name!r} of the update has the shape {list(shape)}, the model's {list(wanted_shape)}",
                fix="train a network of the same sizes as the job's first model, and answer with all of each tensor",
            )
        if dtype != wanted_dtype:
            came, wanted = DTYPES.get(dtype, dtype), DTYPES.get(wanted_dtype, wanted_dtype)
            raise Refused(
                f"tensor {name!r} of the update is {came}, the model's is {wanted}",
                fix=f"convert it before you answer: .astype({wanted!r})",
            )


def _other_names(
    update: Mapping[str, object], base: Mapping[str, object], absent: list[str], extra: list[str]
) -> Refused:
    """Return what to say where the names are not the model's: what is missing, what came, what to do."""
    if not base:
        return Refused(
            f"the update has {_tensors(extra)}, and the model is empty",
            why="job.yaml does not name a model to begin with",
            fix="model: train.py:initial, a function that returns the first one",
        )
    parts = [f"lacks {_tensors(absent)}" if absent else "", f"has {_extra(extra)}" if extra else ""]
    return Refused(
        f"the update {' and '.join(part for part in parts if part)}",
        why=f"it has {_tensors(list(update))}; the model has {_tensors(list(base))}",
        fix=_other_fix(list(update), list(base))
        or (
            "answer with every tensor of the model, including those that did not change"
            if absent
            else "leave out what the model does not have"
        ),
    )


def _other_fix(update: list[str], base: list[str]) -> str:
    """Return what to do where all tensors came, under other names; empty where it is not so."""
    for wrapper, inside in WRAPPERS.items():
        if [wrapper + name for name in sorted(base)] == sorted(update):
            return f"answer with the network in its wrapper: net.{inside}"
    if update == [str(place) for place in range(len(base))]:  # a list
        return "answer with the model's names: dict(zip(task.model, arrays))"
    return ""


def _extra(names: list[str]) -> str:
    said = _tensors(names).removeprefix("the ")
    return f"an extra {said}" if len(names) == 1 else f"extra {said}"


def _tensors(names: list[str]) -> str:
    shown = some([*map(repr, names)], 3)
    return f"the tensor{'s' * (len(names) > 1)} {shown}" if names else "no tensors"


def check_values(
    update: Mapping[str, np.ndarray],
    base: Mapping[str, np.ndarray] | None = None,
    max_norm: float = 0.0,
    *,
    of: str = "the update",
) -> None:
    """Check that every float is finite and, with `max_norm`, that the update is no farther from its base than that.

    Works in slices: its memory does not grow with the model. Raises `Refused` with the tensor and the item, or with the
    distance.
    """
    for name, array in update.items():
        start = _not_finite(array)
        if start >= 0:
            why = _first_bad(array, start)
            fix = f"{FINITE}; {MASK}" if why.endswith("inf") else FINITE
            raise Refused(f"tensor {name!r} of {of} is not finite", why=why, fix=fix)
    if base is not None and max_norm:
        check_distance(update, base, max_norm)


def check_distance(update: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray], max_norm: float) -> None:
    """Check that the update is no farther from its base than a norm (L2). Raises `Refused` with the distance."""
    apart = distance(update, base)
    if apart > max_norm:
        raise Refused(f"the update is {apart:.6g} away from its model", why=f"the bound is {max_norm:g} (L2)")


def is_finite(array: np.ndarray) -> bool:
    """Return whether each item is finite; integers and truth values are."""
    return _not_finite(array) < 0


def _not_finite(array: np.ndarray) -> int:
    """Return where the first slice begins that holds what is not finite, -1 if there is none."""
    import numpy as np

    if array.dtype.kind in "iub":
        return -1
    flat = array.reshape(-1)
    for start in range(0, flat.size, SLICE):
        part = _wide(flat[start : start + SLICE])
        # The sum of squares is finite only where each value is, and takes a third of the time. `vdot` says no warning.
        if not math.isfinite(np.vdot(part, part)) and not np.isfinite(part).all():
            return start
    return -1


def distance(
    update: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray], names: Collection[str] | None = None
) -> float:
    """Return the L2 norm of (update - base) over all float tensors, or those of them that are named.

    Counters and truth values have no say in it. It is inf where it is larger than any float.
    """
    return Distances(base).of(update, update if names is None else names)


class Distances:
    """The distances of many updates from one base, for which memory is asked for once."""

    def __init__(self, base: Mapping[str, np.ndarray]) -> None:
        """Take the base."""
        import numpy as np

        self._quiet = partial(np.errstate, over="ignore", invalid="ignore")
        self._floats = {name: array.reshape(-1) for name, array in base.items() if array.dtype.kind not in "iub"}
        longest = max((array.size for array in self._floats.values()), default=0)
        self._buffer = np.empty(min(longest, SLICE), np.float64)
        self._narrow = self._buffer.view(np.float32)

    def of(self, update: Mapping[str, np.ndarray], names: Iterable[str]) -> float:
        """Return what `distance` does of an update with the names, shapes and dtypes of the base."""
        total = 0.0
        with self._quiet():
            for name in names:
                against = self._floats.get(name)
                if against is None:
                    continue
                flat = update[name].reshape(-1)
                for start in range(0, flat.size, SLICE):
                    total += self._squares(flat[start : start + SLICE], against[start : start + SLICE])
        return math.sqrt(total)

    def _squares(self, part: np.ndarray, against: np.ndarray) -> float:
        if part.dtype.itemsize < 8:
            squares = _squares(part, against, self._narrow)
            if math.isfinite(squares):
                return squares
        return _squares(part, against, self._buffer)


def _wide(part: np.ndarray) -> np.ndarray:
    """Return the slice in a type that numpy calculates with at full speed."""
    import numpy as np

    return part if part.dtype.itemsize >= 4 and part.dtype.kind == "f" else part.astype(np.float32)


def _squares(part: np.ndarray, against: np.ndarray, buffer: np.ndarray) -> float:
    """Return the sum of the squares of the differences, which are calculated in the buffer's type."""
    import numpy as np

    apart = buffer[: part.size]
    np.subtract(part, against, out=apart, dtype=apart.dtype, casting="unsafe")
    return float(apart.dot(apart))


def _first_bad(array: np.ndarray, start: int) -> str:
    import numpy as np

    part = _wide(array.reshape(-1)[start : start + SLICE])
    place = start + int(np.flatnonzero(~np.isfinite(part))[0])
    at = [int(i) for i in np.unravel_index(place, array.shape)]
    return f"item {at} is {float(part[place - start])}"
