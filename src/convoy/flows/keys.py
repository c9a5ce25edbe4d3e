"""Which tensors of a model are federated: patterns of their names, and the layers of batch normalisation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from convoy.errors import BadInput
from convoy.model.arrays import Model

BATCH_NORM: Final = "@batchnorm"  # the pattern that stands for the tensors of all layers of batch normalisation
STATISTICS: Final = (  # what PyTorch and Keras call the running statistics of such a layer
    {"running_mean", "running_var"}, {"moving_mean", "moving_variance"},
)  # fmt: skip
LAYERS: Final = ("bn", "bn[0-9]*", "bn_*", "*_bn", "batchnorm*", "batch_norm*")  # usual names, in lower case


def wrong(keys: Any) -> str:
    """Return what is wrong with patterns, in words; empty: nothing is."""
    if not keys:
        return 'wanted patterns of tensors\' names, such as ["encoder.*"] or ["!head.*"]; null federates all'
    for key in keys:
        if not isinstance(key, str) or not key.removeprefix("!"):
            return f"{key!r} is no pattern: write a tensor's name, in which * is any text; with ! before it, it stays"
        if key.removeprefix("!").startswith("@") and key.removeprefix("!") != BATCH_NORM:
            return f"{key!r} is not known: {BATCH_NORM} is, and stands for the layers of batch normalisation"
    return ""


def federated(names: Sequence[str], keys: Iterable[str]) -> list[str]:
    """Return the names that are federated, in their order.

    A pattern is a name in which `*` is any text, `?` any character and `[ab]` one of these. A name is federated if it
    matches a pattern, or if there is none without `!`, and if it matches none of those with `!` before them.
    """
    wanted = {key: _matching(names, key.removeprefix("!")) for key in keys}
    positive = [found for key, found in wanted.items() if not key.startswith("!")]
    stay = set[str]().union(*(found for key, found in wanted.items() if key.startswith("!")))
    may = set[str]().union(*positive) if positive else set(names)
    return [name for name in names if name in may - stay]


def check(names: Sequence[str], keys: Iterable[str]) -> None:
    """Raise `BadInput` if these patterns do not divide a model of these tensors, or one matches no tensor."""
    keys = list(keys)
    has = f"the model has {', '.join(names[:8]) or 'no tensors'}{' …' if len(names) > 8 else ''}"
    for key in keys:
        if not _matching(names, key.removeprefix("!")):
            fix = "name a tensor of the model, or use * for any text"
            if key.removeprefix("!") == BATCH_NORM:
                fix = f"name the tensors of these layers: {BATCH_NORM} knows running statistics, and names such as bn1"
            raise BadInput(f"keys: {key!r} matches no tensor of the model", why=has, fix=fix)
    kept = federated(names, keys)
    if not kept:
        raise BadInput(f"keys: {keys} leave nothing to federate", why=has, fix="let one pattern match without !")
    if len(kept) == len(names):
        raise BadInput(
            f"keys: {keys} match every tensor of the model", why=has, fix="leave `keys` out, if no tensor is to stay"
        )


def part(model: Model, keys: Iterable[str]) -> Model:
    """Return the federated part of a model: the model itself if that is all of it."""
    names = federated(list(model), keys)
    if len(names) == len(model):
        return model
    digests = {name: model.digests[name] for name in names if name in model.digests}
    return Model({name: model[name] for name in names}, digests=digests)


def _matching(names: Sequence[str], pattern: str) -> set[str]:
    if pattern == BATCH_NORM:
        return batch_norm(names)
    return {name for name in names if fnmatchcase(name, pattern)}


def batch_norm(names: Collection[str]) -> set[str]:
    """Return the tensors of layers of batch normalisation: weights, biases, running statistics and counters.

    Such a layer has running statistics, whatever its own name, or one of the usual names, such as `bn1`.
    """
    layers: dict[str, set[str]] = {}
    for name in names:
        layer, _, last = _split(name)
        layers.setdefault(layer, set()).add(last)
    found = {layer for layer, has in layers.items() if any(it <= has for it in STATISTICS) or _is_usual(layer)}
    return {name for name in names if _split(name)[0] in found}


def _split(name: str) -> tuple[str, str, str]:
    """Return the layer of a tensor, the separator, and what the tensor is called in it."""
    return name.rpartition("/" if "/" in name else ".")


def _is_usual(layer: str) -> bool:
    last = _split(layer)[2].lower()
    return any(fnmatchcase(last, pattern) for pattern in LAYERS)
