"""Filters of a site's policy, as frozen values: what is done to every answer before it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from convoy.errors import BadInput
from convoy.spec import yamls


@dataclass(frozen=True, slots=True)
class Exclude:
    """Puts the model's values in place of the tensors whose name matches one of these shell patterns (`head.*`)."""

    tensors: tuple[str, ...]
    kinds: tuple[str, ...] = ()  # of questions that it is for; empty: all


@dataclass(frozen=True, slots=True)
class Clip:
    """Shortens (update - model) to an L2 norm of at most `norm`, over all float tensors together."""

    norm: float
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Noise:
    """Adds Gaussian noise of standard deviation `sigma` to every item of every float tensor."""

    sigma: float
    kinds: tuple[str, ...] = ()


BITS: Final = (8, 16)  # that an item may travel as


@dataclass(frozen=True, slots=True)
class Quantize:
    """Sends (update - model) with 8 or 16 bits an item; the server's half of it gives workflows the update again."""

    bits: int
    kinds: tuple[str, ...] = ()


Filter = Exclude | Clip | Noise | Quantize


def for_kind(filters: tuple[Filter, ...], kind: str) -> tuple[Filter, ...]:
    """Return the filters that an answer to a question of this kind passes through, in their order."""
    return tuple(one for one in filters if not one.kinds or kind in one.kinds)


def read_all(document: yamls.Document, listed: list[Any]) -> tuple[Filter, ...]:
    """Return the filters of policy.yaml. Raises `BadInput`, also for one that would come after `quantize`."""
    found: list[Filter] = []
    for index, item in enumerate(listed):
        found.append(read(document, index, item))
        for before in found[:-1]:
            if isinstance(before, Quantize) and _meet(before, found[-1]):
                raise BadInput(
                    f"the filter {next(iter(item))!r} stands after quantize",
                    why="quantize packs an update, and no filter can change it afterwards",
                    fix="make quantize the last filter, once for each kind of question",
                    where=document.where(("filters", index)),
                )
    return tuple(found)


def _meet(one: Filter, other: Filter) -> bool:
    """Whether some answer would pass both filters."""
    return not one.kinds or not other.kinds or bool({*one.kinds} & {*other.kinds})


def read(document: yamls.Document, index: int, item: Any) -> Filter:
    """Return one filter of policy.yaml: a mapping of its name to its argument. Raises `BadInput`."""
    path = ("filters", index)
    if not isinstance(item, dict) or len(item) != 1:
        outside = isinstance(item, dict) and "kinds" in item
        raise BadInput(
            f"{yamls.seen(item)} is not a filter",
            fix="write `kinds` inside the filter: `- clip: {norm: 1.0, kinds: [train]}`"
            if outside
            else "write one filter for each item, such as `- clip: {norm: 1.0}`",
            where=document.where(path),
        )
    ((name, argument),) = item.items()
    if name not in _KINDS:
        raise yamls.unknown_key(name, _KINDS, where=document.where((*path, name)))
    wanted, example, make = _KINDS[name]
    made = make(argument)
    if made is None:
        raise BadInput(
            f'"{name}" has {yamls.seen(argument)}; wanted {wanted}',
            fix=f"for some questions only, add a list: {example}",
            where=document.where((*path, name)),
        )
    return made


def _names(value: Any) -> tuple[str, ...] | None:
    fits = isinstance(value, list) and bool(value) and all(isinstance(it, str) and it for it in value)
    return tuple(value) if fits else None


def _parts(argument: Any, key: str) -> tuple[Any, tuple[str, ...]] | None:
    """Return the value of `key`, and the kinds; None if it is not a mapping of these."""
    if not isinstance(argument, dict) or not {key} <= argument.keys() <= {key, "kinds"}:
        return None
    kinds = _names(argument["kinds"]) if "kinds" in argument else ()
    return None if kinds is None else (argument[key], kinds)


def _exclude(argument: Any) -> Exclude | None:
    parts = _parts({"tensors": argument} if isinstance(argument, list) else argument, "tensors")
    tensors = None if parts is None else _names(parts[0])
    return None if parts is None or tensors is None else Exclude(tensors, parts[1])


def _amount(argument: Any, key: str) -> tuple[float, tuple[str, ...]] | None:
    parts = _parts(argument, key)
    if parts is None or isinstance(parts[0], bool) or not isinstance(parts[0], int | float) or not parts[0] > 0:
        return None
    return float(parts[0]), parts[1]


def _clip(argument: Any) -> Clip | None:
    made = _amount(argument, "norm")
    return None if made is None else Clip(*made)


def _noise(argument: Any) -> Noise | None:
    made = _amount(argument, "sigma")
    return None if made is None else Noise(*made)


def _quantize(argument: Any) -> Quantize | None:
    parts = _parts(argument, "bits")
    whole = parts is not None and isinstance(parts[0], int) and not isinstance(parts[0], bool)
    return Quantize(*parts) if parts is not None and whole and parts[0] in BITS else None


_KINDS: Final[Mapping[str, tuple[str, str, Callable[[Any], Filter | None]]]] = {
    "exclude": ('a list of patterns of tensor names, such as ["head.*"]', "{tensors: [...], kinds: [train]}", _exclude),
    "clip": ("{norm: …}, the largest L2 norm of an update's difference, above 0", "{norm: 1.0, kinds: [train]}", _clip),
    "noise": ("{sigma: …}, the standard deviation of the noise, above 0", "{sigma: 0.01, kinds: [train]}", _noise),
    "quantize": (
        "{bits: 8} or {bits: 16}, the bits of each number of an update",
        "{bits: 8, kinds: [train]}",
        _quantize,
    ),
}
