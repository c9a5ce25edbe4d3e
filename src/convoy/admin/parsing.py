"""The client's parser of answers: each becomes its type; anything else is a `RemoteFault`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from convoy.errors import RemoteFault
from convoy.spec import names
from convoy.spec.printable import one_line

if TYPE_CHECKING:  # loading pydantic takes as long as a whole submit: what a submit needs is parsed without it
    from convoy.admin.views import View

    V = TypeVar("V", bound=View)
    T = TypeVar("T")

MAX_SHOWN: Final = 80  # characters that are shown of a value that is wrong
MAX_NUMBER: Final = 2**53 - 1  # the largest that every reader of JSON holds exactly
JOB_ID: Final = re.compile(r"[0-9a-f]{32}")
WORD: Final = re.compile(names.WORD_PATTERN)
SECRET: Final = re.compile(
    r"[A-Za-z0-9_.~+/=-]{1,512}"
)  # a nonce that is signed, a bearer token that is sent in a header
PEM: Final = re.compile(r"[A-Za-z0-9+/= \r\n-]{1,65536}")  # PEM: certificates and requests, and the text between them


def one(kind: type[V], data: bytes) -> V:
    """Return the view that a JSON text describes."""
    return _read(kind.model_validate_json, kind, data)


def each(kind: type[V], data: bytes) -> list[V]:
    """Return the views that a JSON list describes."""
    from pydantic import TypeAdapter

    return _read(TypeAdapter(list[kind]).validate_json, kind, data)  # type: ignore[valid-type]


def _read(read: Callable[..., T], kind: type[View], data: bytes) -> T:
    from pydantic import ValidationError

    try:
        return read(data, strict=True)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(map(str, (kind.__name__.removesuffix("View"), *first["loc"])))
        _refuse(where, first["input"], first["msg"])


def parsed(data: bytes) -> Any:
    """Return the value of a JSON text; `None` for anything else."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def text(data: bytes, key: str, form: re.Pattern[str]) -> str:
    """Return a text of this form from a JSON object."""
    value = _of(data, key)
    if not isinstance(value, str) or not form.fullmatch(value):
        _refuse(key, value, "it does not have the form that is required")
    return value


def number(data: bytes, key: str) -> int:
    """Return a whole number from 0 up from a JSON object."""
    value = _of(data, key)
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        _refuse(key, value, "wanted a whole number from 0 up")
    return value


def same(what: str, got: str, asked: str) -> None:
    """Raise unless the answer is about what was asked for."""
    if got != asked:
        _refuse(what, got, f"asked for {asked}")


def _of(data: bytes, key: str) -> Any:
    said = parsed(data)
    return said.get(key) if isinstance(said, dict) else said


def _refuse(where: str, value: object, wanted: str) -> NoReturn:
    shown = one_line(repr(value))
    shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"
    raise RemoteFault(
        f"the server's answer is not valid: {where} is {shown}",
        why=one_line(wanted),
        fix="compare its version with `convoy --version`; if they are the same, do not trust this server",
    )
