"""YAML in, plain data with the line of every key out; what does not fit is named with its place."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, get_args, get_origin

import yaml

from convoy.errors import BadInput

if TYPE_CHECKING:  # an idle site reads its settings without pydantic
    from pydantic import BaseModel, ValidationError

    Shape = TypeVar("Shape", bound=BaseModel)

MAX_BYTES: Final = 1 << 20  # of a settings file: a larger one is a mistake or an attack
MAX_DEPTH: Final = 20  # levels; ours have 4
MAX_VALUES: Final = 50_000  # about 5,000 participants; each value takes up to 400 bytes and 5 µs to read
MAX_DIGITS: Final = 40  # a longer number stays text, because int() takes minutes for megabytes of digits

_Loader: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_Path = tuple[str | int, ...]

# YAML 1.2's core schema: `1e-3` is a number, `no` is a word, `10:30` is not 630.
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?[0-9]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")  # numbers to YAML, and none to JSON or to us
_TAGS: Final = frozenset({None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and where in it each thing stands."""

    name: str
    data: Any
    places: Mapping[_Path, tuple[int, int]] = field(repr=False)

    def where(self, path: Sequence[str | int]) -> str:
        """Return `file:line:column` of the key or item at `path`, or of the nearest thing around it."""
        here = tuple(path)
        while here and here not in self.places:
            here = here[:-1]
        line, column = self.places.get(here, (1, 1))
        return f"{self.name}:{line}:{column}"

    def mapping(self) -> dict[str, Any]:
        """Return the top level as a mapping; an empty file is an empty one. Raises `BadInput` otherwise."""
        if self.data is None:
            return {}
        if not isinstance(self.data, dict):
            raise BadInput(f"wanted `key: value` lines; found {seen(self.data)}", where=self.where(()))
        return self.data


class _Reader:
    """Turns parser events into data; refuses before it builds."""

    def __init__(self, text: str, name: str) -> None:
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=_Loader))
        self.name = name
        self.places: dict[_Path, tuple[int, int]] = {}

    def document(self) -> Any:
        """Return the file's one document, or None for an empty file."""
        next(self.events)  # the stream's start
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        event = next(self.events)
        self.place((), event)
        data = self.value(event, ())
        next(self.events)  # the document's end
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            self.refuse(event, "a second document begins here", "write only one document in a file: remove the `---`")
        return data

    def value(self, event: Any, path: _Path) -> Any:
        """Return the value that begins with `event`."""
        if isinstance(event, yaml.AliasEvent):
            self.refuse(event, f"aliases (`*{event.anchor}`) are not read", "write the value itself")
        if event.tag not in _TAGS:
            self.refuse(event, f"the tag `{event.tag}` is not read", "remove the tag; write a plain value")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if len(path) >= MAX_DEPTH:
            self.refuse(event, f"nested deeper than {MAX_DEPTH} levels", "use fewer levels")
        return self.mapping(path) if isinstance(event, yaml.MappingStartEvent) else self.sequence(path)

    def mapping(self, path: _Path) -> dict[str, Any]:
        """Return a mapping's entries; every key stands once and is text."""
        entries: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag not in _TAGS:
                self.refuse(
                    event, "a key must be a plain word", "put the text in quotes, or write a key before the `:`"
                )
            key = str(event.value)
            here = (*path, key)
            if key in entries:
                first = self.places[here][0]
                self.refuse(event, f'the key "{key}" is here for the second time', f"it is already in line {first}")
            self.place(here, event)
            entries[key] = self.value(next(self.events), here)
        return entries

    def sequence(self, path: _Path) -> list[Any]:
        """Return a list's items."""
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            here = (*path, len(items))
            self.place(here, event)
            items.append(self.value(event, here))
        return items

    def scalar(self, event: Any) -> Any:
        """Return text, a number, true, false or None."""
        text = str(event.value)
        if event.style or event.tag is not None:  # quoted, a block, or tagged as text
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _NOT_FINITE.fullmatch(text):
            self.refuse(event, f"`{text}` is not a finite number", "write a number; if it is text, put it in quotes")
        if len(text) <= MAX_DIGITS and _INT.fullmatch(text):
            return int(text)
        if len(text) <= MAX_DIGITS and _FLOAT.fullmatch(text):
            if not math.isfinite(float(text)):
                self.refuse(
                    event, f"{text} is larger than the largest number that can be stored", "write a smaller one"
                )
            return float(text)
        return text

    def place(self, path: _Path, event: Any) -> None:
        """Remember where `path` stands."""
        if len(self.places) >= MAX_VALUES:
            self.refuse(event, f"more than {MAX_VALUES:,} values", "split the file")
        self.places[path] = (event.start_mark.line + 1, event.start_mark.column + 1)

    def refuse(self, event: Any, what: str, fix: str) -> NoReturn:
        """Raise with the event's place."""
        mark = event.start_mark
        raise BadInput(what, fix=fix, where=f"{self.name}:{mark.line + 1}:{mark.column + 1}")


def load(text: str, *, name: str) -> Document:
    """Return what `text` says, with the place of each key; `name` is the file's, for messages.

    Safe by construction: no tags, no aliases, no duplicate keys, at most 1 MiB, 20 levels and 50,000 values. Raises
    `BadInput`.
    """
    if len(text) > MAX_BYTES:
        raise BadInput(f"{len(text):,} characters are too many; the limit is {MAX_BYTES:,}", where=name)
    try:
        reader = _Reader(text, name)
        return Document(name, reader.document(), reader.places)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        what, fix = f"not valid YAML: {error.problem}", ""
        if mark and "\t" in text[max(mark.index - mark.column, 0) : mark.index + 1]:
            fix = "indent with spaces: YAML allows no tabs there"
        raise BadInput(what, why=error.context or "", fix=fix, where=place) from error
    except yaml.YAMLError as error:
        raise BadInput("not valid YAML", why=" ".join(str(error).split()), where=name) from error


def load_file(path: Path, name: str = "") -> Document:
    """Return the document in a file; messages call it by a name, else by its path. Raises `BadInput`."""
    return load(read_text(path, name), name=name or str(path))


def read_text(path: Path, name: str = "") -> str:
    """Return the text of a file of at most 1 MiB; messages call it by a name, else by its path.

    Raises `BadInput` for one that is missing, larger or not UTF-8.
    """
    where = name or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise BadInput("no such file", fix="check the path", where=where) from error
    except OSError as error:
        raise BadInput("cannot be read", why=error.strerror or str(error), where=where) from error
    if len(data) > MAX_BYTES:
        raise BadInput(f"larger than {MAX_BYTES:,} bytes, the limit", where=where)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}", where=where) from error


def parse(document: Document, model: type[Shape], data: Any = None, at: Sequence[str | int] = ()) -> Shape:
    """Return `model` made from the document, or from `data` standing at the path `at` in it.

    Raises `BadInput` for the first thing that does not fit; the others follow in its second line.
    """
    made = tried(document, model, data, at)
    if isinstance(made, list):
        raise together(made)
    return made


def tried(
    document: Document, model: type[Shape], data: Any = None, at: Sequence[str | int] = ()
) -> Shape | list[BadInput]:
    """Return `model` made from the document, or everything that does not fit. Raises `BadInput` if it is no mapping."""
    from pydantic import ValidationError

    try:
        return model.model_validate(document.mapping() if data is None else data)
    except ValidationError as error:
        return problems(document, error, model, at)


def together(found: Sequence[BadInput]) -> BadInput:
    """Return the first of several errors, with the others and their hints in its second line, each once."""
    first, told = found[0], {found[0].what: ""}
    for other in found[1:]:
        told.setdefault(
            other.what, f"also {other.what}" + (f" ({other.fix})" if other.fix not in ("", first.fix) else "")
        )
    first.why = "; ".join(filter(None, [first.why, *told.values()]))
    return first


def problems(
    document: Document, error: ValidationError, model: type[BaseModel], at: Sequence[str | int] = ()
) -> list[BadInput]:
    """Return one `BadInput` for each thing that pydantic found, in the order of the file's model."""
    found = []
    for item in error.errors(include_url=False):
        path = (*at, *item["loc"])
        key = dotted(item["loc"])
        where = document.where(path)
        if item["type"] == "extra_forbidden":
            found.append(unknown_key(str(item["loc"][-1]), _keys(model, item["loc"][:-1]), where=where))
        elif item["type"] == "missing":
            found.append(BadInput(f'"{key}" is missing', fix=f"add a line `{item['loc'][-1]}: …`", where=where))
        else:
            wanted = _WANTED.get(item["type"], _said)(item)
            found.append(BadInput(f'"{key}" is {seen(item["input"])}; wanted {wanted}', where=where))
    return found


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Return the keys that a model has at a path within it; none where that is not one model."""
    named = {field.alias or name: field for name, field in model.model_fields.items()}
    if not path:
        return list(named)
    annotation = named[str(path[0])].annotation if str(path[0]) in named else None
    inner = _model(annotation)
    return _keys(inner, path[2 if get_origin(annotation) is dict else 1 :]) if inner else []


def _model(annotation: Any) -> type[BaseModel] | None:
    from pydantic import BaseModel

    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)


def unknown_key(key: str, known: Iterable[str], *, where: str) -> BadInput:
    """Return the error for a key that nobody knows, with the nearest known one as its hint."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    fix = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(names)}" if names else "remove it"
    return BadInput(f'unknown key "{key}"', fix=fix, where=where)


def seen(value: Any) -> str:
    """Return a value as a person would point at it, in at most about 60 characters."""
    if value is None:
        return "empty"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    kind = "the mapping " if isinstance(value, dict) else "the list " if isinstance(value, list) else ""
    return kind + (text if len(text) <= 60 else text[:57] + "…")


def dotted(path: Sequence[str | int]) -> str:
    """Return `participants[2].name` for a path."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _said(item: Any) -> str:
    """Return pydantic's own words for what it wanted."""
    return str(item["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


_WANTED: Final[dict[str, Callable[[Any], str]]] = {
    "string_type": lambda _: "text (put quotes around it)",
    "int_type": lambda _: "a whole number",
    "int_from_float": lambda _: "a whole number",
    "float_type": lambda _: "a number",
    "bool_type": lambda _: "true or false",
    "dict_type": lambda _: "a mapping (`key: value` lines)",
    "model_type": lambda _: "a mapping (`key: value` lines)",
    "list_type": lambda _: "a list (`- item` lines)",
    "tuple_type": lambda _: "a list (`- item` lines)",
}
