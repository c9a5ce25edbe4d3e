"""Length-prefixed protobuf frames: between a node and its workers over a socket pair, and inside TLS.

A frame is 4 bytes of length (little endian) and one message. The trainer's side is blocking and has no thread, so
that a training script may fork; the workflow's side and the node's side are asyncio streams.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from convoy.errors import RemoteFault

if TYPE_CHECKING:
    import asyncio

LENGTH: Final = struct.Struct("<I")
MAX_FRAME: Final = 17 << 20  # bytes of a message: a header of 16 MiB, with room
MAX_BARE: Final = 4 << 20  # bytes of a message beside the header: a federation.json of 3 MiB, with room
HEADERS: Final[Mapping[str, tuple[int, ...]]] = {  # where a blob's header is in a message: numbers of fields
    "Offer": (2, 3),
    "Down": (3, 2, 3),
    "PodUp": (2, 3),
    "PodDown": (2, 3),
}
NEAR: Final = 4 << 10  # bytes: what a message has before its header
MAX_FIRST: Final = 768 << 10  # bytes of a connection's first message: 32,769 ranges or 10,000 jobs, with room


class Message(Protocol):
    """The two methods of a protobuf message that a frame needs."""

    def SerializeToString(self) -> bytes: ...  # noqa: D102, N802 - protobuf's name

    def ParseFromString(self, serialized: bytes, /) -> int: ...  # noqa: D102, N802 - protobuf's name


M = TypeVar("M", bound=Message)


def pack(message: Message) -> bytes:
    """Return the frame of a message."""
    body = message.SerializeToString()
    return LENGTH.pack(len(body)) + body


def length_of(head: bytes, limit: int = MAX_FRAME) -> int:
    """Return how many bytes follow the first four. Raises `RemoteFault` over the limit."""
    (length,) = LENGTH.unpack(head)
    if length > limit:
        raise RemoteFault(f"a frame of {length} bytes is announced", why=f"the limit is {limit} bytes")
    return int(length)


def parsed(kind: type[M], body: bytes) -> M:
    """Return the message in a frame's body. Raises `RemoteFault` if it is none."""
    from google.protobuf.message import DecodeError  # the caller has loaded it already

    if len(body) > MAX_BARE and len(body) - _header_size(body, HEADERS.get(kind.__name__, ())) > MAX_BARE:
        raise RemoteFault(f"a message of {len(body)} bytes", why=f"{MAX_BARE} are the limit without a blob's header")
    message = kind()
    try:
        message.ParseFromString(body)
    except DecodeError as problem:
        raise RemoteFault("a frame contains no valid message", why=str(problem)) from problem
    return message


def _header_size(body: bytes, path: tuple[int, ...]) -> int:
    """Return how many bytes of a message are the header at a path; 0 if there is none near its beginning.

    A message in repeated fields takes up to 40 times its bytes when it is parsed, but a header only its own size.
    """
    place, end = 0, len(body)
    for number in path:
        field = 0
        while field != number:
            if place >= min(end, NEAR):
                return 0
            tag, place = _varint(body, place)
            field, kind = tag >> 3, tag & 7
            size, place = _varint(body, place) if kind in (0, 2) else (8 if kind == 1 else 4, place)
            if field == number and kind == 2:
                end = min(end, place + size)
            elif field == number or kind not in (0, 1, 2, 5):
                return 0
            else:
                place += size if kind else 0
    return max(end - place, 0) if path else 0


def _varint(body: bytes, place: int) -> tuple[int, int]:
    """Return a number of at most ten bytes, and the place after it."""
    value = 0
    for at, byte in enumerate(body[place : place + 10]):
        value |= (byte & 127) << (7 * at)
        if byte < 128:
            return value, place + at + 1
    return value, place + 10


async def read(stream: asyncio.StreamReader, kind: type[M]) -> M | None:
    """Return the next message, or None when the other end has closed.

    Raises `RemoteFault` for a frame over the limit, or one that is no message.
    """
    from asyncio import IncompleteReadError  # a trainer never reads this way, and starts 10 % faster without asyncio

    try:
        head = await stream.readexactly(LENGTH.size)
        body = await stream.readexactly(length_of(head))
    except (IncompleteReadError, ConnectionError):
        return None
    return parsed(kind, body)


class Blocking:
    """The trainer's end of the socket pair: one message at a time, no thread."""

    def __init__(self, sock: socket.socket) -> None:
        """Take the socket over."""
        self._sock = sock

    def send(self, message: Message) -> None:
        """Write one frame; raises `OSError` when the node is gone."""
        self._sock.sendall(pack(message))

    def receive(self, kind: type[M]) -> M | None:
        """Return the next message, or None when the node is gone."""
        head = self._exactly(LENGTH.size)
        if head is None:
            return None
        body = self._exactly(length_of(head))
        if body is None:
            return None
        return parsed(kind, body)

    def _exactly(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            try:
                part = self._sock.recv(size - len(parts))
            except ConnectionError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
