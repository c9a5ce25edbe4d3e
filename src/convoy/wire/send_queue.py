"""A queue of messages to a peer, bounded in messages and bytes, because a peer may read slowly or not at all."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, TypeVar

MAX_UNREAD: Final = 10_000  # messages for a peer that does not read; it may receive them again when it reconnects
MAX_UNREAD_BYTES: Final = 64 << 20  # of these messages: a thousand tasks with small models
ROOM: Final = 1 << 20  # bytes in the queue, up to which less important messages are added


class _Sized(Protocol):
    def ByteSize(self) -> int: ...  # noqa: N802 - protobuf's name


M = TypeVar("M", bound=_Sized)


class SendQueue(asyncio.Queue["M | None"]):
    """A queue of messages; None ends it."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.size = 0  # bytes
        self._room = asyncio.Event()
        self._room.set()

    @property
    def unread(self) -> bool:
        """Whether more waits than a peer may leave unread."""
        return self.qsize() >= MAX_UNREAD or self.size >= MAX_UNREAD_BYTES

    @property
    def roomy(self) -> bool:
        """Whether so little waits that something less important may join it."""
        return self._room.is_set()

    async def room(self) -> None:
        """Wait until the queue is short, or is closed."""
        await self._room.wait()

    def end(self) -> None:
        """Close the queue."""
        self._room.set()

    def _put(self, item: M | None) -> None:
        super()._put(item)  # the methods that asyncio provides for other kinds of queues
        self._count(0 if item is None else item.ByteSize())

    def _get(self) -> M | None:
        item = super()._get()
        self._count(0 if item is None else -item.ByteSize())
        return item

    def _count(self, size: int) -> None:
        self.size += size
        if self.size < ROOM:
            self._room.set()
        else:
            self._room.clear()
