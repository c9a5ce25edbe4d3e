"""Length-prefixed protobuf frames: between a node and its workers over a socket pair, and inside TLS.

A frame is 4 bytes of length (little endian) and one message. The trainer's side is blocking and holds no thread, so
that a training script may fork; the workflow's side and the node's side are asyncio streams.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from convoy.errors import RemoteFault

if TYPE_CHECKING:
    import asyncio

LENGTH: Final = struct.Struct("<I")
MAX_FRAME: Final = 17 << 20  # bytes of a message: a header of 16 MiB, with room
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
    from google.protobuf.message import DecodeError  # whoever has a message has it loaded

    message = kind()
    try:
        message.ParseFromString(body)
    except DecodeError as problem:
        raise RemoteFault("a frame holds no message", why=str(problem)) from problem
    return message


async def read(stream: asyncio.StreamReader, kind: type[M]) -> M | None:
    """Return the next message, or None when the other end has closed.

    Raises `RemoteFault` for a frame over the limit, or one that is no message.
    """
    from asyncio import IncompleteReadError  # a trainer never reads so, and starts a tenth sooner without asyncio

    try:
        head = await stream.readexactly(LENGTH.size)
        body = await stream.readexactly(length_of(head))
    except (IncompleteReadError, ConnectionError):
        return None
    return parsed(kind, body)


class Blocking:
    """The trainer's end: one message at a time, no thread."""

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
