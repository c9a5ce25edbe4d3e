"""What a request says, read within limits: its body, a number, a switch, a view."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect, Request

from convoy.admin import views
from convoy.errors import BadInput

MAX_BODY: Final = 64 << 10  # bytes of a request that is a view: two certificates and a signature, with room
SILENCE_S: Final = 30.0  # between two pieces of a request, over the slowest link

V = TypeVar("V", bound=views.View)


async def body(request: Request, limit: int) -> bytes:
    """Return the request's body; raises `BadInput` before reading more than `limit` bytes."""
    too_big = BadInput(
        f"the request is larger than {limit} bytes", why="that is the limit of this route", fix="send less"
    )
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit:
        raise too_big
    parts: list[bytes] = []
    size = 0
    stream = aiter(request.stream())
    try:
        while (part := await asyncio.wait_for(anext(stream, None), SILENCE_S)) is not None:
            size += len(part)
            if size > limit:
                raise too_big
            parts.append(part)
    except (ClientDisconnect, TimeoutError) as gone:
        raise BadInput("the request ended in the middle", why=f"gone, or silent for {SILENCE_S:.0f} s") from gone
    return b"".join(parts)


def number(request: Request, name: str, default: int) -> int:
    """Return a query parameter that is a whole number from 0 up."""
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > 18:
        raise BadInput(f"{name} is {text[:40]!r}; wanted a whole number from 0 up")
    return int(text)


def switch(request: Request, name: str) -> bool:
    """Return a query parameter that is true or false."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise BadInput(f"{name} is {text[:40]!r}; wanted true or false")
    return text == "true"


async def read(request: Request, kind: type[V]) -> V:
    """Return the view that a request is. Raises `BadInput`."""
    from pydantic import ValidationError

    try:
        return kind.model_validate_json(await body(request, MAX_BODY))
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        word = kind.__name__.removesuffix("Ask").lower()
        raise BadInput(f"this is no {word} request", why=f"{where}: {first['msg']}".lstrip(": ")) from problem
