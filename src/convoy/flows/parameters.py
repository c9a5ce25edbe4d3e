"""The parameters of a workflow, as its signature names them, and whether a value is what one of them wants."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from convoy.errors import BadInput

TYPES: Final[Mapping[str, tuple[type, ...]]] = {  # by their names in annotations; what is not here is not checked
    "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "list": (list,), "dict": (dict,),
    "None": (type(None),),
}  # fmt: skip
WORDS: Final[Mapping[str, str]] = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "list": "a list",
    "dict": "a mapping", "None": "nothing",
}  # fmt: skip
EXAMPLES: Final[Mapping[str, str]] = {
    "int": "5", "float": "0.5", "str": "text", "bool": "true", "list": "[1, 2]", "dict": "{a: 1}", "None": "null",
    "list[str]": '["age", "sex"]', "list[float]": "[0.5, 0.9]", "dict[str, list[float]]": "{age: [0, 120]}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Range:
    """The values that a parameter may have, in words, and the test of one."""

    words: str
    has: Callable[[Any], bool]


ABOVE_0: Final = Range("a number above 0", lambda value: 0 < value < math.inf)
FROM_0: Final = Range("a number from 0 up", lambda value: 0 <= value < math.inf)
DECAY: Final = Range("a number from 0 up and below 1", lambda value: 0 <= value < 1)


def outside(given: Mapping[str, Any], ranges: Mapping[str, Range]) -> dict[str, str]:
    """Return what is wrong with the values that are outside of their ranges, by name; null is outside of none."""
    return {
        name: f"wanted {it.words}"
        for name, it in ranges.items()
        if given.get(name) is not None and not it.has(given[name])
    }


@dataclass(frozen=True, slots=True)
class Parameter:
    """A workflow's own parameter; `annotation` is its text, empty where there is none."""

    name: str
    annotation: str
    required: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a workflow after the fleet; `open` if it takes any others too."""

    parameters: tuple[Parameter, ...]
    open: bool


def example(annotation: str) -> str:
    """Return what a parameter of this annotation may be, in YAML; a list has items of its type."""
    first = annotation.strip("'\"").partition("|")[0].strip()
    return EXAMPLES.get(first) or EXAMPLES[first.partition("[")[0].strip()]


def of_tree(args: ast.arguments) -> Signature:
    """Return the parameters of a function as its syntax tree names them."""
    places = [*args.posonlyargs, *args.args]
    needed = len(places) - len(args.defaults)
    found = [(arg, place < needed) for place, arg in enumerate(places)][1:]  # the first is the fleet
    found += [(arg, default is None) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return Signature(
        tuple(Parameter(a.arg, ast.unparse(a.annotation) if a.annotation else "", needs) for a, needs in found),
        open=args.kwarg is not None,
    )


def wanted(annotation: str, value: Any) -> str:
    """Return in words what a parameter wants, empty if the value is that or the annotation says nothing checkable."""
    names = [part.strip().partition("[")[0] for part in annotation.strip("'\"").split("|")]
    if not annotation or any(name not in TYPES for name in names):
        return ""
    for name in names:
        if isinstance(value, TYPES[name]) and (name == "bool" or not isinstance(value, bool)):
            return ""
    return " or ".join(WORDS[name] for name in names)


def require(problems: Mapping[str, str]) -> None:
    """Raise `BadInput` if anything is wrong with parameters, by name."""
    if problems:
        raise BadInput("; ".join(f"{name}: {problem}" for name, problem in problems.items()))
