"""Reads the parts of a request within limits: its body, a number, a boolean, a view."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect, Request

from convoy.admin import views
from convoy.errors import BadInput

MAX_BODY: Final = 64 << 10  # bytes of a request in JSON: two certificates and a signature, with room
SILENCE_S: Final = 30.0  # between two parts of a request, over the slowest link
BODY_S: Final = 30.0  # for the body of a small request; a larger one may take as long as it takes at `SLOWEST`
SLOWEST: Final = 128 << 10  # bytes a second (one megabit): the largest bundle may take about ten minutes

V = TypeVar("V", bound=views.View)


async def body(request: Request, limit: int, check: Callable[[], None]) -> bytes:
    """Return the request's body. Raises what `check` raises for each part, and `BadInput`.

    `BadInput` is raised for more than `limit` bytes, before they are read, and for a body that takes too long.
    """
    too_big = BadInput(
        f"the request is larger than {limit} bytes", why="that is the limit of this route", fix="send less"
    )
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit:
        raise too_big
    parts: list[bytes] = []
    size, clock = 0, asyncio.get_running_loop().time
    stream, begun = aiter(request.stream()), clock()
    try:
        while True:
            async with asyncio.timeout_at(min(clock() + SILENCE_S, begun + BODY_S + size / SLOWEST)):
                part = await anext(stream, None)
            if part is None:
                return b"".join(parts)
            check()
            size += len(part)
            if size > limit:
                raise too_big
            parts.append(part)
    except ClientDisconnect as gone:
        raise BadInput("the request ended in the middle", why="the connection was closed") from gone
    except TimeoutError as late:
        raise BadInput(
            "the request took too long",
            why=f"{size} bytes arrived in {clock() - begun:.0f} s; at least {SLOWEST >> 10} KiB a second are required",
            fix="send it over a faster connection",
        ) from late


def number(request: Request, name: str, default: int, *, least: int = 0) -> int:
    """Return a query parameter that is a whole number from `least` (0 or -1) up."""
    text = request.query_params.get(name, str(default))
    if not (text.isdecimal() or text == str(least)) or len(text) > 18:
        raise BadInput(f"{name} is {text[:40]!r}; wanted a whole number from {least} up")
    return int(text)


def switch(request: Request, name: str) -> bool:
    """Return a query parameter that is true or false."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise BadInput(f"{name} is {text[:40]!r}; wanted true or false")
    return text == "true"


def read(data: bytes, kind: type[V]) -> V:
    """Return the view in a request's body. Raises `BadInput`."""
    from pydantic import ValidationError

    try:
        return kind.model_validate_json(data)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        word = kind.__name__.removesuffix("Ask").lower()
        raise BadInput(f"this is not a valid {word} request", why=f"{where}: {first['msg']}".lstrip(": ")) from problem
